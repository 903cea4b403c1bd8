"""Logging in at another provider: the browser keeps a sealed note and is believed when it brings note and answer."""

import base64
import binascii
import hmac
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from errand_common.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied

from errand_gateway.domain.auth import check_active
from errand_gateway.domain.idempotency import Seal
from errand_gateway.domain.sessions import Grant, Sessions
from errand_gateway.domain.tenants import Tenant
from errand_gateway.domain.users import Origin, User, UserState, UserStore

ATTEMPT_SECONDS: Final = 600
"""How long a person may take at the provider."""

_TICKET_SECONDS: Final = 60
_NOT_BEGUN: Final = "the login was not begun in this browser, or took longer than ten minutes; begin again"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the browser keeps, sealed, while its person is at the provider."""

    provider: str
    state: str
    nonce: str
    verifier: str
    return_to: str
    until: float


@dataclass(frozen=True, slots=True)
class Person:
    """Who a provider says has logged in; `user_id` is the same whenever this person comes.

    `session` is the digest of the provider's session, empty when it names none.
    """

    tenant_id: str
    user_id: str
    email: str
    display_name: str
    roles: frozenset[str]
    session: str = ""


@dataclass(frozen=True, slots=True)
class Logout:
    """What a provider says has ended: one of its sessions, or all of a person; one of the two is empty at most."""

    user_id: str
    session: str
    at: datetime


class LoginProvider(Protocol):
    """Where people log in."""

    async def address(self, attempt: Attempt) -> str:
        """Where the browser is sent. Raises Unavailable."""
        ...

    async def person(self, code: str, attempt: Attempt) -> Person:
        """Who came back with this code. Raises Unauthenticated, PermissionDenied, Unavailable."""
        ...

    async def logout(self, token: str) -> Logout:
        """What a logout token says. Raises Unauthenticated for one that is not valid, Unavailable."""
        ...


class ProviderLogins:
    """Begins and finishes logins at providers; what is sealed is kept by the browser, not here."""

    def __init__(
        self,
        providers: Mapping[str, LoginProvider],
        sessions: Sessions,
        users: UserStore,
        tenant: Callable[[str], Awaitable[Tenant]],
        seal: Seal,
        *,
        return_urls: frozenset[str],
        now: Callable[[], datetime],
    ) -> None:
        self._providers = providers
        self._sessions = sessions
        self._users = users
        self._tenant = tenant
        self._seal = seal
        self._return_urls = return_urls
        self._now = now

    @property
    def names(self) -> list[str]:
        """The providers."""
        return sorted(self._providers)

    async def begin(self, name: str, return_to: str) -> tuple[str, str]:
        """Where the browser is sent, and the note that it keeps. Raises NotFound, InvalidArgument, Unavailable."""
        if return_to and return_to not in self._return_urls:
            raise InvalidArgument("is none of the addresses that the operator allows", field="return_to")
        attempt = Attempt(
            provider=name,
            state=secrets.token_urlsafe(24),
            nonce=secrets.token_urlsafe(24),
            verifier=secrets.token_urlsafe(48),
            return_to=return_to,
            until=self._until(ATTEMPT_SECONDS),
        )
        return await self._provider(name).address(attempt), self._sealed("attempt", asdict(attempt))

    def attempt(self, name: str, state: str, note: str) -> Attempt:
        """The attempt that a browser comes back from. Raises InvalidArgument for one it did not begin here."""
        kept = self._opened("attempt", note)
        if kept is None or kept["provider"] != name or not hmac.compare_digest(kept["state"].encode(), state.encode()):
            raise InvalidArgument(_NOT_BEGUN, field="state")
        return Attempt(**kept)

    async def finish(self, code: str, attempt: Attempt, *, found: Callable[[User], None]) -> Grant:
        """A session for who came back. Raises what the provider does, and PermissionDenied for a tenant or user."""
        person = await self._provider(attempt.provider).person(code, attempt)
        try:
            check_active((await self._tenant(person.tenant_id)).state)
        except NotFound as error:
            raise PermissionDenied("the login's tenant is not known here", permission="tenant:active") from error
        user = await self._user(person)
        found(user)
        return await self._sessions.open(user, Origin(attempt.provider, person.user_id, person.session))

    async def log_out(self, name: str, token: str) -> Sequence[tuple[str, str]]:
        """Ends the sessions that came from one which has ended at the provider; tenant and user of those they were.

        Raises NotFound, Unauthenticated, Unavailable. A token that comes again ends nothing that began since.
        """
        ended = await self._provider(name).logout(token)
        origin = Origin(name, ended.user_id, ended.session)
        return await self._sessions.end_of_provider(origin, begun_by=ended.at)

    def ticket(self, grant: Grant) -> str:
        """What a page gets in its address instead of tokens: good once, for a minute."""
        return self._sealed("ticket", {"refresh": grant.refresh_token, "until": self._until(_TICKET_SECONDS)})

    async def redeem(self, ticket: str, *, found: Callable[[User], None]) -> Grant:
        """The tokens for a ticket; one that comes again ends its session. Raises InvalidArgument, Unauthenticated."""
        kept = self._opened("ticket", ticket)
        if kept is None:
            raise InvalidArgument("is not valid or older than a minute; log in again", field="ticket")
        return await self._sessions.refresh(kept["refresh"], found=found)

    def _provider(self, name: str) -> LoginProvider:
        provider = self._providers.get(name)
        if provider is None:
            raise NotFound("login provider", name)
        return provider

    async def _user(self, person: Person) -> User:
        known = await self._known(person)
        if known is None:
            try:
                fresh = _new_user(person, self._now())
                await self._users.add(fresh)
            except AlreadyExists as error:
                # Either this person came twice at once, or somebody else has the address.
                known = await self._known(person)
                if known is None:
                    raise PermissionDenied(
                        "another account of this tenant has this e-mail address; ask an administrator",
                        permission="self:manage",
                    ) from error
            else:
                return fresh
        if known.roles == person.roles and known.display_name == person.display_name:
            return known
        changed = replace(known, roles=person.roles, display_name=person.display_name)
        changed = await self._users.update(changed, expected_version=0)
        self._sessions.forget()
        return changed

    async def _known(self, person: Person) -> User | None:
        try:
            return await self._users.get(person.tenant_id, person.user_id)
        except NotFound:
            return None

    def _until(self, seconds: float) -> float:
        return (self._now() + timedelta(seconds=seconds)).timestamp()

    def _sealed(self, purpose: str, values: Mapping[str, Any]) -> str:
        return base64.urlsafe_b64encode(self._seal.seal(purpose, json.dumps(values).encode())).decode()

    def _opened(self, purpose: str, text: str) -> dict[str, Any] | None:
        try:
            sealed = base64.urlsafe_b64decode(text.encode("ascii"))
            values: dict[str, Any] = json.loads(self._seal.open(purpose, sealed))
        except (ValueError, binascii.Error):
            return None
        return values if values["until"] > self._now().timestamp() else None


def _new_user(person: Person, now: datetime) -> User:
    return User(
        id=person.user_id,
        tenant_id=person.tenant_id,
        email=person.email,
        display_name=person.display_name,
        roles=person.roles,
        state=UserState.ACTIVE,
        version=1,
        created_at=now,
        last_login_at=None,
        password_hash="",
    )
