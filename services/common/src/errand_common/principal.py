"""Who a piece of work is done for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from errand_common.errors import InvalidArgument, PermissionDenied, Unauthenticated


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller inside a tenant."""

    tenant_id: str
    id: str
    roles: frozenset[str] = field(default_factory=frozenset)
    scopes: frozenset[str] = field(default_factory=frozenset)
    request_id: str = ""


_current: ContextVar[Principal | None] = ContextVar("errand_principal", default=None)


def current_principal() -> Principal:
    """The principal of the call or task that runs; raises Unauthenticated when there is none."""
    principal = _current.get()
    if principal is None:
        raise Unauthenticated
    return principal


def known_tenant() -> str:
    """The tenant that the call or task works for; "" when that is nobody."""
    principal = _current.get()
    return principal.tenant_id if principal is not None else ""


@contextmanager
def acting_as(principal: Principal) -> Iterator[Principal]:
    """Sets the principal for a block."""
    token = _current.set(principal)
    try:
        yield principal
    finally:
        _current.reset(token)


def become(principal: Principal) -> None:
    """Sets the principal for the rest of the running task; `acting_as` is for parts of a task.

    A server stream may be closed from another task, where a variable cannot be set back.
    """
    _current.set(principal)


def may_erase_tenant(principal: Principal, tenant_id: str) -> None:
    """Raises PermissionDenied, and InvalidArgument when it is not the caller's own tenant that is named."""
    if principal.roles.isdisjoint({"owner", "admin"}):
        raise PermissionDenied("Only an owner or admin may erase a tenant.", permission="tenant:erase")
    if tenant_id != principal.tenant_id:
        raise InvalidArgument("is not the tenant you act for; repeat its id", field="tenant_id")
