"""Who is calling: an API key or a token becomes a principal."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Protocol

from errand_common.errors import PermissionDenied, Unauthenticated
from errand_common.principal import Principal

from errand_gateway.domain.keys import ApiKey, KeyText, Pepper, parse_key

_UNKNOWN: Final = "the API key is not valid; send a key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
# A JSON web token has three parts; a key has no dot.
_TOKEN_DOTS: Final = 2
_MISSING: Final = "an API key is needed; send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"


class TenantState(StrEnum):
    """Whether a tenant's principals may act."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    DELETING = "deleting"
    DELETED = "deleted"


def check_active(state: TenantState) -> None:
    """Raises PermissionDenied unless the tenant's principals may act."""
    if state is not TenantState.ACTIVE:
        raise PermissionDenied(
            f"this tenant is {_NOT_ACTIVE[state]}; ask the operator of this installation", permission="tenant:active"
        )


_NOT_ACTIVE: Final = {
    TenantState.SUSPENDED: "suspended",
    TenantState.DELETING: "being deleted",
    TenantState.DELETED: "deleted",
}


@dataclass(frozen=True, slots=True)
class Credential:
    """A key with the state of its tenant."""

    key: ApiKey
    tenant_state: TenantState
    tenant_networks: tuple[str, ...] = ()


class CredentialStore(Protocol):
    """Where keys are looked up."""

    async def find(self, prefix: str) -> Credential | None:
        """The key with this public prefix."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, from where it may, and, for a person, in which session.

    Each of `networks` is a list that the caller's address must be in; an empty one allows all.
    """

    principal: Principal
    networks: tuple[tuple[str, ...], ...] = ()
    session_id: str = ""


class TokenSource(Protocol):
    """Tells callers by tokens of one kind."""

    async def caller(self, text: str, *, request_id: str) -> Caller | None:
        """Who sends a token; None for a token of another kind. Raises Unauthenticated or PermissionDenied."""
        ...


class Authenticator:
    """Checks keys, and lets sources of tokens check theirs."""

    def __init__(self, store: CredentialStore, pepper: Pepper, tokens: Sequence[TokenSource] = ()) -> None:
        self._store = store
        self._pepper = pepper
        self._tokens = tuple(tokens)
        # Compared with when the prefix is unknown, so that its absence takes as long as a wrong secret.
        self._nobody = pepper.digest(KeyText("nobody", "nothing"))

    async def authenticate(self, text: str | None, *, request_id: str) -> Caller:
        """Who sends a key or a token.

        Raises Unauthenticated for one that is missing, unknown, wrong, expired or revoked, and
        PermissionDenied when its tenant may not act.
        """
        if not text:
            raise Unauthenticated(_MISSING)
        if text.count(".") == _TOKEN_DOTS:
            for source in self._tokens:
                caller = await source.caller(text, request_id=request_id)
                if caller is not None:
                    return caller
        return await self._by_key(text, request_id)

    async def _by_key(self, text: str, request_id: str) -> Caller:
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
        return Caller(principal, (credential.tenant_networks, key.allowed_networks))

    def _check_usable(self, credential: Credential) -> None:
        key = credential.key
        if key.revoked_at is not None:
            raise Unauthenticated("the API key was revoked; ask an administrator for a new one")
        if key.expires_at is not None and key.expires_at <= datetime.now(UTC):
            raise Unauthenticated("the API key has expired; ask an administrator for a new one")
        check_active(credential.tenant_state)
