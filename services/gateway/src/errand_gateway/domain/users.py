"""People: how they are kept, what they may be given, and the sessions they log in to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from errand_common.errors import PermissionDenied
from errand_common.principal import Principal

from errand_gateway.domain.admin import check_may_manage
from errand_gateway.domain.auth import TenantState
from errand_gateway.domain.permissions import Role, Scope, permissions_of
from errand_gateway.domain.resources import Page, PageQuery

ALL_SCOPES: Final = frozenset(scope.value for scope in Scope)
"""What a person's roles are narrowed by: nothing. Scopes are for keys."""


class UserState(StrEnum):
    """Whether a person may log in."""

    ACTIVE = "active"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class User:
    """A person of a tenant; `email` is in lower case and unique in it."""

    id: str
    tenant_id: str
    email: str
    display_name: str
    roles: frozenset[str]
    state: UserState
    version: int
    created_at: datetime
    last_login_at: datetime | None
    password_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Session:
    """A login; `number` is that of its newest refresh token, `seed` what its tokens depend on."""

    id: str
    tenant_id: str
    user_id: str
    number: int
    seed: str = field(repr=False)
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a login was confirmed: the provider, whom it names, and the digest of its own session, if it has one."""

    provider: str
    user_id: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session with whose it is and whether that tenant may act."""

    session: Session
    user: User
    tenant_state: TenantState
    tenant_networks: tuple[str, ...] = ()


class UserStore(Protocol):
    """Where people are kept."""

    async def add(self, user: User) -> None:
        """Stores a person; raises AlreadyExists, or NotFound without the tenant."""
        ...

    async def get(self, tenant_id: str, user_id: str) -> User:
        """One person; raises NotFound."""
        ...

    async def find(self, tenant_id: str, email: str) -> User | None:
        """The person with this address."""
        ...

    async def list(self, tenant_id: str, page: PageQuery) -> Page[User]:
        """The tenant's people, newest first."""
        ...

    async def update(self, user: User, *, expected_version: int) -> User:
        """Stores what has changed; raises NotFound, or Conflict when another version is in place."""
        ...

    async def delete(self, tenant_id: str, user_id: str) -> None:
        """Removes a person with all sessions; raises NotFound."""
        ...


class SessionStore(Protocol):
    """Where logins are kept."""

    async def open(self, session: Session, origin: Origin | None = None) -> None:
        """Stores a login, notes when its user logged in, and deletes the user's expired ones; raises NotFound."""
        ...

    async def find(self, tenant_id: str, session_id: str) -> OpenSession | None:
        """A login with its user."""
        ...

    async def rotate(self, session: Session) -> bool:
        """Lets the next refresh token be the newest; false when it is no longer the session's turn."""
        ...

    async def revoke(self, tenant_id: str, session_id: str) -> None:
        """Ends a login."""
        ...

    async def revoke_all(self, tenant_id: str, user_id: str, *, but: str = "") -> None:
        """Ends all logins of a person, except one."""
        ...

    async def revoke_of_provider(self, origin: Origin, *, begun_by: datetime) -> Sequence[tuple[str, str]]:
        """Ends the logins of a provider's session, or without its digest all of its user that began until then.

        Returns tenant and user of each person whose logins they were.
        """
        ...


class PasswordHasher(Protocol):
    """Makes and checks password hashes; both take their time."""

    async def hash(self, password: str) -> str:
        """A hash with its own salt and parameters."""
        ...

    async def verify(self, password: str, hashed: str) -> bool:
        """Whether the password has this hash; takes as long for an empty hash, which no password has."""
        ...


def check_may_give(caller: Principal, tenant_id: str, roles: frozenset[str]) -> None:
    """Raises PermissionDenied when these roles may do what the caller may not."""
    check_may_manage(caller, tenant_id)
    extra = permissions_of(roles, caller.scopes) - permissions_of(caller.roles, caller.scopes)
    if extra or (Role.OWNER in roles and Role.OWNER not in caller.roles):
        named = ", ".join(sorted(permission.value for permission in extra)) or Role.OWNER.value
        raise PermissionDenied(f"a user may not be given more than you have: {named}", permission=named)
