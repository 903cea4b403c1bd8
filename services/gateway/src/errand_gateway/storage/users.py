"""People and their sessions in the database."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from errand_common.db import Database, decode_page_token, encode_page_token, utc_now
from errand_common.errors import AlreadyExists, Conflict, NotFound
from sqlalchemy.exc import IntegrityError

from errand_gateway.domain.auth import TenantState
from errand_gateway.domain.resources import Page, PageQuery
from errand_gateway.domain.users import OpenSession, Origin, Session, User, UserState
from errand_gateway.storage.models import ProviderSessionRow, SessionRow, TenantRow, UserRow
from errand_gateway.storage.tenants import check_takes_new

_CHANGEABLE = ("display_name", "roles", "state", "password_hash")


class SqlUserRepository:
    """UserStore on the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, user: User) -> None:
        """Stores a person; raises AlreadyExists, or NotFound without the tenant."""
        try:
            async with self._database.transaction(user.tenant_id) as session:
                await check_takes_new(session, user.tenant_id)
                session.add(UserRow(**_values(user)))
        except IntegrityError as error:
            raise AlreadyExists("user", user.email) from error

    async def get(self, tenant_id: str, user_id: str) -> User:
        """One person; raises NotFound."""
        query = sa.select(UserRow).where(UserRow.id == user_id, UserRow.tenant_id == tenant_id)
        async with self._database.transaction(tenant_id, read_only=True) as session:
            row = await session.scalar(query)
        if row is None:
            raise NotFound("user", user_id)
        return _user(row)

    async def find(self, tenant_id: str, email: str) -> User | None:
        """The person with this address."""
        query = sa.select(UserRow).where(UserRow.tenant_id == tenant_id, UserRow.email == email)
        async with self._database.transaction(tenant_id, read_only=True) as session:
            row = await session.scalar(query)
        return _user(row) if row else None

    async def list(self, tenant_id: str, page: PageQuery) -> Page[User]:
        """The tenant's people, newest first."""
        size = page.size or 50
        after = decode_page_token(page.token, length=1)
        query = sa.select(UserRow).where(UserRow.tenant_id == tenant_id).order_by(UserRow.id.desc()).limit(size + 1)
        if after is not None:
            query = query.where(UserRow.id < str(after[0]))
        async with self._database.transaction(tenant_id, read_only=True) as session:
            rows = [*await session.scalars(query)]
        token = encode_page_token([rows[size - 1].id]) if len(rows) > size else ""
        return Page([_user(row) for row in rows[:size]], token)

    async def update(self, user: User, *, expected_version: int) -> User:
        """Stores what has changed; raises NotFound, or Conflict when another version is in place."""
        query = sa.select(UserRow).where(UserRow.id == user.id, UserRow.tenant_id == user.tenant_id)
        async with self._database.transaction(user.tenant_id) as session:
            row = await session.scalar(query.with_for_update())
            if row is None:
                raise NotFound("user", user.id)
            if expected_version not in (0, row.version):
                raise Conflict(f"the user is at version {row.version}; read it again", resource="user", id=user.id)
            values = _values(user)
            for name in _CHANGEABLE:
                setattr(row, name, values[name])
            row.version += 1
            return replace(user, version=row.version)

    async def delete(self, tenant_id: str, user_id: str) -> None:
        """Removes a person with all sessions; raises NotFound."""
        statement = sa.delete(UserRow).where(UserRow.id == user_id, UserRow.tenant_id == tenant_id)
        async with self._database.transaction(tenant_id) as session:
            if await session.scalar(statement.returning(UserRow.id)) is None:
                raise NotFound("user", user_id)


class SqlSessionRepository:
    """SessionStore on the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, session: Session, origin: Origin | None = None) -> None:
        """Stores a login, notes when its user logged in, and deletes the user's expired ones; raises NotFound."""
        values = {name: getattr(session, name) for name in Session.__slots__}
        expired = sa.delete(SessionRow).where(SessionRow.user_id == session.user_id, SessionRow.expires_at < utc_now())
        noted = (
            sa.update(UserRow)
            .where(UserRow.id == session.user_id, UserRow.tenant_id == session.tenant_id)
            .values(last_login_at=session.created_at)
        )
        async with self._database.transaction(session.tenant_id) as transaction:
            await check_takes_new(transaction, session.tenant_id)
            await transaction.execute(expired)
            found: Any = await transaction.execute(noted)
            if not found.rowcount:
                raise NotFound("user", session.user_id)
            transaction.add(SessionRow(**values))
            if origin is not None:
                await transaction.flush()
                transaction.add(_provider_session(session, origin))

    async def find(self, tenant_id: str, session_id: str) -> OpenSession | None:
        """A login with its user."""
        query = (
            sa.select(SessionRow, UserRow, TenantRow.state, TenantRow.allowed_networks)
            .join(UserRow, UserRow.id == SessionRow.user_id)
            .join(TenantRow, TenantRow.id == SessionRow.tenant_id)
            .where(SessionRow.id == session_id, SessionRow.tenant_id == tenant_id)
        )
        async with self._database.transaction(tenant_id, read_only=True) as transaction:
            found = (await transaction.execute(query)).first()
        if found is None:
            return None
        session = Session(**{name: getattr(found[0], name) for name in Session.__slots__})
        return OpenSession(session, _user(found[1]), TenantState(found[2]), tuple(found[3]))

    async def rotate(self, session: Session) -> bool:
        """Lets the next refresh token be the newest; false when it is no longer the session's turn."""
        statement = (
            sa.update(SessionRow)
            .where(
                SessionRow.id == session.id,
                SessionRow.tenant_id == session.tenant_id,
                SessionRow.number == session.number,
                SessionRow.revoked_at.is_(None),
            )
            .values(number=session.number + 1)
            .returning(SessionRow.id)
        )
        async with self._database.transaction(session.tenant_id) as transaction:
            return await transaction.scalar(statement) is not None

    async def revoke(self, tenant_id: str, session_id: str) -> None:
        """Ends a login."""
        await self._revoke(tenant_id, SessionRow.id == session_id)

    async def revoke_all(self, tenant_id: str, user_id: str, *, but: str = "") -> None:
        """Ends all logins of a person, except one."""
        await self._revoke(tenant_id, SessionRow.user_id == user_id, SessionRow.id != but)

    async def revoke_of_provider(self, origin: Origin, *, begun_by: datetime) -> Sequence[tuple[str, str]]:
        """Ends the logins of a provider's session, or without its digest all of its user that began until then.

        Returns tenant and user of each person whose logins they were.
        """
        row, wanted = ProviderSessionRow, {"provider": origin.provider, "subject": origin.user_id}
        named = {name: value for name, value in (wanted | {"digest": origin.digest}).items() if value}
        which = [getattr(row, name) == value for name, value in named.items()]
        people = sa.select(row.owner_tenant, row.subject).where(*which).distinct()
        async with self._database.transaction(None, read_only=True) as transaction:
            found = [(tenant_id, user_id) for tenant_id, user_id in await transaction.execute(people)]
        in_time = [] if origin.digest else [SessionRow.created_at <= begun_by]
        for tenant_id, _ in found:
            await self._revoke(tenant_id, SessionRow.id.in_(sa.select(row.session_id).where(*which)), *in_time)
        return found

    async def _revoke(self, tenant_id: str, *which: sa.ColumnElement[bool]) -> None:
        statement = (
            sa.update(SessionRow)
            .where(SessionRow.tenant_id == tenant_id, SessionRow.revoked_at.is_(None), *which)
            .values(revoked_at=utc_now())
        )
        async with self._database.transaction(tenant_id) as transaction:
            await transaction.execute(statement)


def _provider_session(session: Session, origin: Origin) -> ProviderSessionRow:
    return ProviderSessionRow(
        session_id=session.id,
        owner_tenant=session.tenant_id,
        provider=origin.provider,
        subject=origin.user_id,
        digest=origin.digest,
    )


def _values(user: User) -> dict[str, object]:
    values: dict[str, object] = {name: getattr(user, name) for name in User.__slots__}
    return values | {"roles": sorted(user.roles), "state": user.state.value}


def _user(row: UserRow) -> User:
    values = {name: getattr(row, name) for name in User.__slots__}
    return User(**values | {"roles": frozenset(row.roles), "state": UserState(row.state)})
