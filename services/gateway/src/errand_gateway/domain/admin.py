"""Making keys and tenants."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from errand_common.errors import AlreadyExists, NotFound, PermissionDenied
from errand_common.principal import Principal
from errand_gateway.domain.auth import TenantState
from errand_gateway.domain.keys import ApiKey, KeyText, Pepper, new_key, parse_key
from errand_gateway.domain.permissions import OPERATOR_TENANT, Role, Scope, permissions_of
from errand_gateway.domain.tenants import Tenant


class KeyStore(Protocol):
    """Where keys are kept."""

    async def add(self, key: ApiKey) -> None:
        """Stores a key."""
        ...


class TenantStore(Protocol):
    """Where tenants are kept."""

    async def add(self, tenant: Tenant) -> None:
        """Stores a tenant."""
        ...


@dataclass(frozen=True, slots=True)
class NewKey:
    """What is wanted of a key."""

    tenant_id: str
    name: str
    roles: frozenset[str]
    scopes: frozenset[str]
    expires_at: datetime | None


def check_may_grant(caller: Principal, wanted: NewKey) -> None:
    """Raises PermissionDenied when the new key could do what its maker may not."""
    if wanted.tenant_id != caller.tenant_id and not _is_operator(caller):
        # The same answer as for a tenant that does not exist: others' tenants are not told of.
        raise NotFound("tenant", wanted.tenant_id)
    mine = permissions_of(caller.roles, caller.scopes)
    extra = permissions_of(wanted.roles, wanted.scopes) - mine
    if extra or (Role.OWNER in wanted.roles and Role.OWNER not in caller.roles):
        named = ", ".join(sorted(permission.value for permission in extra)) or Role.OWNER.value
        raise PermissionDenied(
            f"a key may not be given more than its maker has: {named}", permission=named
        )


def _is_operator(caller: Principal) -> bool:
    return caller.tenant_id == OPERATOR_TENANT and Role.OWNER in caller.roles


def make_key(
    wanted: NewKey, pepper: Pepper, *, key_id: str, now: datetime
) -> tuple[ApiKey, str]:
    """A fresh key and its text, which is shown once."""
    text = new_key()
    parts = parse_key(text)
    if parts is None:
        raise AssertionError("a new key has the form of keys")
    return stored_key(wanted, parts, pepper, key_id=key_id, now=now), text


def stored_key(
    wanted: NewKey, parts: KeyText, pepper: Pepper, *, key_id: str, now: datetime
) -> ApiKey:
    """What is stored of a key."""
    return ApiKey(
        id=key_id,
        tenant_id=wanted.tenant_id,
        prefix=parts.prefix,
        digest=pepper.digest(parts),
        pepper_id=pepper.id,
        name=wanted.name,
        roles=wanted.roles,
        scopes=wanted.scopes,
        created_at=now,
        expires_at=wanted.expires_at,
        revoked_at=None,
        last_used_at=None,
    )


def _all(kind: Iterable[str]) -> frozenset[str]:
    return frozenset(str(member) for member in kind)


async def bootstrap(
    tenants: TenantStore,
    keys: KeyStore,
    pepper: Pepper,
    admin_key: str | None,
    *,
    key_id: str,
    now: datetime,
) -> None:
    """Makes the operator's tenant and, when one is given, its first key; keeps what is there."""
    with contextlib.suppress(AlreadyExists):
        await tenants.add(Tenant(OPERATOR_TENANT, "Default", TenantState.ACTIVE, now))
    parts = parse_key(admin_key) if admin_key else None
    if parts is None:
        return
    wanted = NewKey(
        OPERATOR_TENANT, "bootstrap admin key", frozenset({Role.OWNER.value}), _all(Scope), None
    )
    with contextlib.suppress(AlreadyExists):
        await keys.add(stored_key(wanted, parts, pepper, key_id=key_id, now=now))
