"""Requests that are sent again: the first one's answer is given to all of them, and the work is done once."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from errand_common.errors import Conflict, InvalidArgument
from errand_common.principal import Principal

KEPT: Final = timedelta(hours=24)
"""How long an answer is kept."""

LEASE: Final = timedelta(minutes=5)
"""How long a request that has said nothing, its gateway having died, keeps others with its key waiting."""

LARGEST_ANSWER_BYTES: Final = 1024 * 1024
"""Of a larger answer only the key is kept: the request is carried out again."""

ANSWERS_KEPT: Final = 10_000
"""How many answers are kept for a tenant; the oldest go first."""


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """Who sends which request with which key; `digest` is of the key, `fingerprint` of the request."""

    tenant_id: str
    principal_id: str
    digest: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class SavedAnswer:
    """An answer, its body sealed; `status` is 0 while the request goes on, or when its answer is not kept."""

    fingerprint: str
    running: bool
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class AnswerStore(Protocol):
    """Where answers are kept, for all gateways."""

    async def claim(self, request: KeyedRequest, *, now: datetime, lease: timedelta) -> SavedAnswer | None:
        """What there is for the key; None when there was nothing, and the key is now this request's."""
        ...

    async def finish(
        self, request: KeyedRequest, *, status: int, headers: tuple[tuple[str, str], ...], body: bytes, until: datetime
    ) -> None:
        """Keeps the answer."""
        ...

    async def release(self, request: KeyedRequest) -> None:
        """Gives the key back: the request may be sent again."""
        ...


class Seal(Protocol):
    """Hides what is stored from those who know the database but not the caller's key."""

    def seal(self, key: str, content: bytes) -> bytes:
        """The content, unreadable."""
        ...

    def open(self, key: str, sealed: bytes) -> bytes:
        """The content again. Raises ValueError for what was not sealed with this key here."""
        ...


@dataclass(frozen=True, slots=True)
class Replay:
    """An answer that was given before."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Claim:
    """The right to carry a request out; ends with an answer to keep, or without."""

    def __init__(
        self, request: KeyedRequest, key: str, store: AnswerStore, seal: Seal, now: Callable[[], datetime]
    ) -> None:
        self._request = request
        self._key = key
        self._store = store
        self._seal = seal
        self._now = now

    async def finish(self, status: int, headers: tuple[tuple[str, str], ...], body: bytes) -> None:
        """Keeps the answer for those who send the request again."""
        until = self._now() + KEPT
        sealed = self._seal.seal(self._key, body)
        await self._store.finish(self._request, status=status, headers=headers, body=sealed, until=until)

    async def finish_without_answer(self) -> None:
        """Keeps that the request was made, so that no other one is made with its key."""
        until = self._now() + KEPT
        await self._store.finish(self._request, status=0, headers=(), body=b"", until=until)

    async def release(self) -> None:
        """The request failed: it may be sent again."""
        await self._store.release(self._request)


class Idempotency:
    """Finds out whether a request was made before."""

    def __init__(self, store: AnswerStore, seal: Seal, now: Callable[[], datetime]) -> None:
        self._store = store
        self._seal = seal
        self._now = now

    async def begin(self, principal: Principal, key: str, fingerprint: str) -> Claim | Replay:
        """The right to carry it out, or the answer that it had.

        Raises InvalidArgument when the key was used for another request, Conflict while the first one
        with this key goes on.
        """
        digest = hashlib.sha256(key.encode()).hexdigest()
        request = KeyedRequest(principal.tenant_id, principal.id, digest, fingerprint)
        found = await self._store.claim(request, now=self._now(), lease=LEASE)
        claim = Claim(request, key, self._store, self._seal, self._now)
        if found is None:
            return claim
        if found.fingerprint != fingerprint:
            raise InvalidArgument("was used for another request; use a new one", field="Idempotency-Key")
        if found.running:
            raise Conflict(
                "a request with this Idempotency-Key is being carried out; wait for its answer",
                resource="idempotency key",
            )
        if not found.status:
            return claim
        return Replay(found.status, found.headers, self._seal.open(key, found.body))
