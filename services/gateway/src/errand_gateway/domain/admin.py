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
from errand_gateway.domain.permissions import (
    OPERATOR_TENANT,
    Permission,
    Role,
    Scope,
    permissions_of,
)
from errand_gateway.domain.resources import Page, PageQuery
from errand_gateway.domain.tenants import Tenant


class KeyStore(Protocol):
    """Where keys are kept."""

    async def add(self, key: ApiKey) -> None:
        """Stores a key; raises AlreadyExists, or NotFound without its tenant."""
        ...

    async def get(self, tenant_id: str, key_id: str) -> ApiKey:
        """One key; raises NotFound."""
        ...

    async def list(self, tenant_id: str, page: PageQuery) -> Page[ApiKey]:
        """The tenant's keys, newest first."""
        ...

    async def expire(self, tenant_id: str, key_id: str, at: datetime) -> None:
        """Lets a key expire at a moment, unless it does so earlier; raises NotFound."""
        ...

    async def revoke(self, tenant_id: str, key_id: str) -> ApiKey:
        """Makes a key useless; raises NotFound."""
        ...


class TenantStore(Protocol):
    """Where tenants are kept."""

    async def add(self, tenant: Tenant) -> None:
        """Stores a tenant; raises AlreadyExists."""
        ...

    async def get(self, tenant_id: str) -> Tenant:
        """One tenant; raises NotFound."""
        ...

    async def list(self, page: PageQuery) -> Page[Tenant]:
        """All tenants, by id."""
        ...

    async def change(
        self, tenant_id: str, *, state: TenantState | None = None, allowed_networks: tuple[str, ...] | None = None
    ) -> Tenant:
        """Sets what is given; raises NotFound, and Conflict for a tenant that is being deleted."""
        ...


@dataclass(frozen=True, slots=True)
class NewKey:
    """What is wanted of a key."""

    tenant_id: str
    name: str
    roles: frozenset[str]
    scopes: frozenset[str]
    expires_at: datetime | None
    allowed_networks: tuple[str, ...] = ()


def check_may_grant(caller: Principal, wanted: NewKey) -> None:
    """Raises PermissionDenied when the new key could do what its maker may not."""
    check_may_manage(caller, wanted.tenant_id)
    mine = permissions_of(caller.roles, caller.scopes)
    extra = permissions_of(wanted.roles, wanted.scopes) - mine
    if extra or (Role.OWNER in wanted.roles and Role.OWNER not in caller.roles):
        named = ", ".join(sorted(permission.value for permission in extra)) or Role.OWNER.value
        raise PermissionDenied(f"a key may not be given more than its maker has: {named}", permission=named)


def check_may_manage(caller: Principal, tenant_id: str) -> None:
    """Raises NotFound when the tenant is not the caller's own and the caller no operator."""
    if tenant_id != caller.tenant_id and not _is_operator(caller):
        # The same answer as for a tenant that does not exist: others' tenants are not told of.
        raise NotFound("tenant", tenant_id)


def _is_operator(caller: Principal) -> bool:
    return caller.tenant_id == OPERATOR_TENANT and Permission.TENANTS_MANAGE in permissions_of(
        caller.roles, caller.scopes
    )


def make_key(wanted: NewKey, pepper: Pepper, *, key_id: str, now: datetime) -> tuple[ApiKey, str]:
    """A fresh key and its text, which is shown once."""
    text = new_key()
    parts = parse_key(text)
    if parts is None:
        raise AssertionError("a new key has the form of keys")
    return stored_key(wanted, parts, pepper, key_id=key_id, now=now), text


def stored_key(wanted: NewKey, parts: KeyText, pepper: Pepper, *, key_id: str, now: datetime) -> ApiKey:
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
        allowed_networks=wanted.allowed_networks,
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
    wanted = NewKey(OPERATOR_TENANT, "bootstrap admin key", frozenset({Role.OWNER.value}), _all(Scope), None)
    with contextlib.suppress(AlreadyExists):
        await keys.add(stored_key(wanted, parts, pepper, key_id=key_id, now=now))
