"""Logging in: a password becomes a session, whose refresh tokens are good once each.

A refresh token is made of the session's number and a code over it; nothing of it is stored. One that was
replaced and comes again was stolen or copied: the session ends, for whoever holds it.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from errand_common.errors import InvalidArgument, NotFound, Unauthenticated
from errand_common.principal import Principal

from errand_gateway.domain.auth import Caller, check_active
from errand_gateway.domain.recent import Recent
from errand_gateway.domain.users import (
    ALL_SCOPES,
    OpenSession,
    Origin,
    PasswordHasher,
    Session,
    SessionStore,
    User,
    UserState,
)
from errand_gateway.domain.users import UserStore as Users

_PREFIX: Final = "errand_refresh_"
_PARTS: Final = re.compile(r"^([a-z0-9-]{1,63})\.(ses_[0-9a-f]{32})\.(\d{1,9})\.([0-9a-f]{64})$")
_WRONG: Final = "tenant, e-mail address or password are not right"
_ENDED: Final = "the session has ended; log in again"


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """What an access token says."""

    tenant_id: str
    session_id: str


class AccessTokens(Protocol):
    """Signs and reads the tokens that requests are sent with."""

    seconds: float

    def sign(self, user: User, session: Session) -> str:
        """A token of the session."""
        ...

    def read(self, text: str) -> AccessClaims | None:
        """What a token says; None for what is no token of ours. Raises Unauthenticated for a bad one."""
        ...


class LoginThrottle(Protocol):
    """Slows down guessing."""

    async def check(self, account: str, address: str) -> None:
        """Counts an attempt; raises RateLimited after too many."""
        ...


@dataclass(frozen=True, slots=True)
class Grant:
    """What a login gives."""

    user: User
    session: Session
    access_token: str
    refresh_token: str


class Sessions:
    """Opens, renews and ends sessions, and tells who sends an access token."""

    def __init__(
        self,
        store: SessionStore,
        users: Users,
        hasher: PasswordHasher,
        tokens: AccessTokens,
        throttle: LoginThrottle,
        *,
        secret: bytes,
        lifetime: timedelta,
        now: Callable[[], datetime],
        new_id: Callable[[str], str],
    ) -> None:
        self._store = store
        self._users = users
        self._hasher = hasher
        self._tokens = tokens
        self._throttle = throttle
        self._secret = secret
        self._lifetime = lifetime
        self._now = now
        self._new_id = new_id
        self._recent = Recent[tuple[str, str], OpenSession](lambda key: store.find(*key))

    async def login(
        self, tenant_id: str, email: str, password: str, *, address: str, found: Callable[[User], None]
    ) -> Grant:
        """A new session; `found` is told the account before its password is known to be right.

        Raises Unauthenticated for anything that is not right, and RateLimited after too many attempts.
        """
        email = email.lower()
        await self._throttle.check(f"{tenant_id}/{email}", address)
        user = await self._users.find(tenant_id, email)
        if user is not None:
            found(user)
        right = await self._hasher.verify(password, user.password_hash if user else "")
        if user is None or not right or user.state is not UserState.ACTIVE:
            raise Unauthenticated(_WRONG)
        try:
            return await self.open(user)
        except NotFound as error:
            # Deleted while the password was looked at.
            raise Unauthenticated(_WRONG) from error

    async def open(self, user: User, origin: Origin | None = None) -> Grant:
        """A session of somebody who has shown who it is. Raises Unauthenticated for a disabled user, NotFound."""
        _check_enabled(user)
        now = self._now()
        session = Session(
            id=self._new_id("ses"),
            tenant_id=user.tenant_id,
            user_id=user.id,
            number=1,
            seed=secrets.token_hex(16),
            created_at=now,
            expires_at=now + self._lifetime,
            revoked_at=None,
        )
        await self._store.open(session, origin)
        return self._grant(user, session)

    async def refresh(self, text: str, *, found: Callable[[User], None]) -> Grant:
        """A new pair of tokens for a refresh token, which is good no longer.

        Raises Unauthenticated; a token that was used before ends its session.
        """
        parts = _parts(text)
        opened = await self._store.find(parts[0], parts[1]) if parts else None
        if parts is None or opened is None or not hmac.compare_digest(parts[3], self._code(opened.session, parts[2])):
            raise Unauthenticated("the refresh token is not valid; log in again")
        found(opened.user)
        self._check(opened)
        session = opened.session
        if parts[2] != session.number or not await self._store.rotate(session):
            await self.end(session.tenant_id, session.id)
            raise Unauthenticated("the refresh token was used before, so the session has been ended; log in again")
        self._recent.forget()
        return self._grant(opened.user, replace(session, number=session.number + 1))

    @property
    def access_seconds(self) -> float:
        """How long an access token is good."""
        return self._tokens.seconds

    async def hash(self, password: str) -> str:
        """What is stored of a password."""
        return await self._hasher.hash(password)

    async def change_password(
        self, tenant_id: str, user_id: str, current: str, new: str, *, session_id: str, address: str
    ) -> None:
        """Sets another password and ends all other sessions.

        Raises InvalidArgument when the current one is not right, and RateLimited after too many attempts.
        """
        user = await self._users.get(tenant_id, user_id)
        await self._throttle.check(f"{tenant_id}/{user.email}", address)
        if not await self._hasher.verify(current, user.password_hash):
            raise InvalidArgument("is not your password", field="current_password")
        changed = replace(user, password_hash=await self._hasher.hash(new))
        await self._users.update(changed, expected_version=user.version)
        await self.end_all(tenant_id, user_id, but=session_id)

    async def end(self, tenant_id: str, session_id: str) -> None:
        """Ends a session; its access tokens are refused from now on, by other gateways within seconds."""
        await self._store.revoke(tenant_id, session_id)
        self._recent.forget()

    async def end_all(self, tenant_id: str, user_id: str, *, but: str = "") -> None:
        """Ends all sessions of a person, except one."""
        await self._store.revoke_all(tenant_id, user_id, but=but)
        self._recent.forget()

    async def end_of_provider(self, origin: Origin, *, begun_by: datetime) -> Sequence[tuple[str, str]]:
        """Ends what a provider says has ended; tenant and user of each person whose sessions they were."""
        people = await self._store.revoke_of_provider(origin, begun_by=begun_by)
        self._recent.forget()
        return people

    def forget(self) -> None:
        """Users or tenants were changed: they are read anew."""
        self._recent.forget()

    async def caller(self, text: str, *, request_id: str) -> Caller | None:
        """Who sends an access token; None for a token that is not ours.

        Raises Unauthenticated for one that is not valid or whose session has ended, and PermissionDenied
        when the tenant may not act.
        """
        claims = self._tokens.read(text)
        if claims is None:
            return None
        opened = await self._recent.find((claims.tenant_id, claims.session_id))
        if opened is None:
            raise Unauthenticated(_ENDED)
        self._check(opened)
        user = opened.user
        principal = Principal(user.tenant_id, user.id, user.roles, ALL_SCOPES, request_id)
        return Caller(principal, (opened.tenant_networks,), session_id=opened.session.id)

    def _check(self, opened: OpenSession) -> None:
        session = opened.session
        if session.revoked_at is not None or session.expires_at <= self._now():
            raise Unauthenticated(_ENDED)
        _check_enabled(opened.user)
        check_active(opened.tenant_state)

    def _grant(self, user: User, session: Session) -> Grant:
        body = f"{session.tenant_id}.{session.id}.{session.number}.{self._code(session, session.number)}"
        refresh = _PREFIX + base64.urlsafe_b64encode(body.encode()).rstrip(b"=").decode()
        return Grant(user, session, self._tokens.sign(user, session), refresh)

    def _code(self, session: Session, number: int) -> str:
        text = f"refresh:{session.tenant_id}:{session.id}:{session.seed}:{number}"
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()


def _check_enabled(user: User) -> None:
    if user.state is not UserState.ACTIVE:
        raise Unauthenticated("this user is disabled; ask an administrator")


def _parts(text: str) -> tuple[str, str, int, str] | None:
    if not text.startswith(_PREFIX):
        return None
    body = text.removeprefix(_PREFIX)
    try:
        plain = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    match = _PARTS.match(plain)
    return (match[1], match[2], int(match[3]), match[4]) if match else None
