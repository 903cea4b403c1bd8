"""Who is calling: an API key becomes a principal."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Protocol

from errand_common.errors import PermissionDenied, Unauthenticated
from errand_common.principal import Principal

from errand_gateway.domain.keys import ApiKey, KeyText, Pepper, parse_key

_UNKNOWN: Final = "the API key is not valid; send a key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
_MISSING: Final = "an API key is needed; send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"


class TenantState(StrEnum):
    """Whether a tenant's principals may act."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class Credential:
    """A key with the state of its tenant."""

    key: ApiKey
    tenant_state: TenantState


class CredentialStore(Protocol):
    """Where keys are looked up."""

    async def find(self, prefix: str) -> Credential | None:
        """The key with this public prefix."""
        ...


class CredentialCache:
    """Keeps looked-up keys for a few seconds; a change in this process is seen at once."""

    def __init__(
        self,
        store: CredentialStore,
        *,
        ttl_seconds: float = 5.0,
        max_entries: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._ttl_seconds = ttl_seconds
        self._max_entries = max_entries
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, Credential]] = OrderedDict()
        self._generation = 0

    async def find(self, prefix: str) -> Credential | None:
        """The key, at most `ttl_seconds` old."""
        entry = self._entries.get(prefix)
        if entry is not None and self._clock() - entry[0] < self._ttl_seconds:
            return entry[1]
        generation = self._generation
        credential = await self._store.find(prefix)
        self._entries.pop(prefix, None)
        # A key that was revoked while we read must not come back into the cache.
        if credential is not None and generation == self._generation:
            self._entries[prefix] = (self._clock(), credential)
            if len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)
        return credential

    def forget(self) -> None:
        """Drops everything: keys or tenants were changed."""
        self._generation += 1
        self._entries.clear()


class Authenticator:
    """Checks keys."""

    def __init__(self, store: CredentialStore, pepper: Pepper) -> None:
        self._store = store
        self._pepper = pepper
        # Compared with when the prefix is unknown, so that its absence takes as long as a wrong secret.
        self._nobody = pepper.digest(KeyText("nobody", "nothing"))

    async def authenticate(self, text: str | None, *, request_id: str) -> tuple[Principal, ApiKey]:
        """The principal of a key.

        Raises Unauthenticated for a missing, unknown, wrong, expired or revoked key, and
        PermissionDenied when the key's tenant is suspended.
        """
        if not text:
            raise Unauthenticated(_MISSING)
        parts = parse_key(text)
        if parts is None:
            raise Unauthenticated(_UNKNOWN)
        credential = await self._store.find(parts.prefix)
        digest = credential.key.digest if credential else self._nobody
        if not self._pepper.matches(parts, digest) or credential is None:
            raise Unauthenticated(_UNKNOWN)
        self._check_usable(credential)
        key = credential.key
        principal = Principal(
            tenant_id=key.tenant_id,
            id=key.id,
            roles=key.roles,
            scopes=key.scopes,
            request_id=request_id,
        )
        return principal, key

    def _check_usable(self, credential: Credential) -> None:
        key = credential.key
        if key.revoked_at is not None:
            raise Unauthenticated("the API key was revoked; ask an administrator for a new one")
        if key.expires_at is not None and key.expires_at <= datetime.now(UTC):
            raise Unauthenticated("the API key has expired; ask an administrator for a new one")
        if credential.tenant_state is not TenantState.ACTIVE:
            raise PermissionDenied(
                "this tenant is suspended; ask the operator of this installation",
                permission="tenant:active",
            )
