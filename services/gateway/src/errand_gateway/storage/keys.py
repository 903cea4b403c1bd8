"""API keys and the tenants they belong to."""

from collections.abc import Iterable, Mapping
from datetime import datetime

import sqlalchemy as sa
from errand_common.db import Database, decode_page_token, encode_page_token, utc_now
from errand_common.errors import AlreadyExists, NotFound
from sqlalchemy.exc import IntegrityError

from errand_gateway.domain.auth import Credential, TenantState
from errand_gateway.domain.keys import ApiKey
from errand_gateway.domain.resources import Page, PageQuery
from errand_gateway.storage.models import ApiKeyRow, KeyPrefixRow, TenantRow
from errand_gateway.storage.tenants import check_takes_new


class SqlKeyRepository:
    """Keys in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, prefix: str) -> Credential | None:
        """The key with this public prefix, and its tenant's state."""
        owner = sa.select(KeyPrefixRow.owner_tenant).where(KeyPrefixRow.prefix == prefix)
        async with self._database.transaction(None) as session:
            tenant_id = await session.scalar(owner)
        if tenant_id is None:
            return None
        query = (
            sa.select(ApiKeyRow, TenantRow.state, TenantRow.allowed_networks)
            .join(TenantRow, TenantRow.id == ApiKeyRow.tenant_id)
            .where(ApiKeyRow.prefix == prefix)
        )
        async with self._database.transaction(tenant_id) as session:
            row = (await session.execute(query)).first()
        return Credential(_key(row[0]), TenantState(row[1]), tuple(row[2])) if row else None

    async def add(self, key: ApiKey) -> None:
        """Stores a key; raises AlreadyExists when its prefix is taken, NotFound without tenant."""
        try:
            async with self._database.transaction(key.tenant_id) as session:
                await check_takes_new(session, key.tenant_id)
                session.add(KeyPrefixRow(prefix=key.prefix, owner_tenant=key.tenant_id))
                session.add(_row(key))
        except IntegrityError as error:
            raise AlreadyExists("key", key.prefix) from error

    async def get(self, tenant_id: str, key_id: str) -> ApiKey:
        """One key of the tenant; raises NotFound."""
        query = sa.select(ApiKeyRow).where(ApiKeyRow.id == key_id, ApiKeyRow.tenant_id == tenant_id)
        async with self._database.transaction(tenant_id) as session:
            row = await session.scalar(query)
        if row is None:
            raise NotFound("key", key_id)
        return _key(row)

    async def list(self, tenant_id: str, page: PageQuery) -> Page[ApiKey]:
        """The tenant's keys, newest first."""
        size = page.size or 50
        after = decode_page_token(page.token, length=1)
        query = (
            sa.select(ApiKeyRow).where(ApiKeyRow.tenant_id == tenant_id).order_by(ApiKeyRow.id.desc()).limit(size + 1)
        )
        if after is not None:
            query = query.where(ApiKeyRow.id < str(after[0]))
        async with self._database.transaction(tenant_id) as session:
            rows = list(await session.scalars(query))
        token = encode_page_token([rows[size - 1].id]) if len(rows) > size else ""
        return Page([_key(row) for row in rows[:size]], token)

    async def revoke(self, tenant_id: str, key_id: str) -> ApiKey:
        """Makes a key useless from now on; one that was revoked stays as it is."""
        statement = (
            sa.update(ApiKeyRow)
            .where(
                ApiKeyRow.id == key_id,
                ApiKeyRow.tenant_id == tenant_id,
                ApiKeyRow.revoked_at.is_(None),
            )
            .values(revoked_at=utc_now())
        )
        async with self._database.transaction(tenant_id) as session:
            await session.execute(statement)
        return await self.get(tenant_id, key_id)

    async def expire(self, tenant_id: str, key_id: str, at: datetime) -> None:
        """Lets a key expire at a moment, unless it does so earlier; raises NotFound."""
        query = sa.select(ApiKeyRow).where(ApiKeyRow.id == key_id, ApiKeyRow.tenant_id == tenant_id)
        async with self._database.transaction(tenant_id) as session:
            row = await session.scalar(query.with_for_update())
            if row is None:
                raise NotFound("key", key_id)
            if row.expires_at is None or row.expires_at > at:
                row.expires_at = at

    async def touch(self, tenant_id: str, used_at: Mapping[str, datetime]) -> None:
        """Notes when keys were last used."""
        async with self._database.transaction(tenant_id) as session:
            for key_id, moment in used_at.items():
                await session.execute(
                    sa.update(ApiKeyRow)
                    .where(ApiKeyRow.id == key_id, ApiKeyRow.tenant_id == tenant_id)
                    .values(last_used_at=moment)
                )


def _row(key: ApiKey) -> ApiKeyRow:
    return ApiKeyRow(
        id=key.id,
        tenant_id=key.tenant_id,
        prefix=key.prefix,
        digest=key.digest,
        pepper_id=key.pepper_id,
        name=key.name,
        roles=_names(key.roles),
        scopes=_names(key.scopes),
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        last_used_at=key.last_used_at,
        allowed_networks=list(key.allowed_networks),
    )


def _names(values: Iterable[str]) -> list[str]:
    return sorted(values)


def _key(row: ApiKeyRow) -> ApiKey:
    return ApiKey(
        id=row.id,
        tenant_id=row.tenant_id,
        prefix=row.prefix,
        digest=row.digest,
        pepper_id=row.pepper_id,
        name=row.name,
        roles=frozenset(row.roles),
        scopes=frozenset(row.scopes),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        allowed_networks=tuple(row.allowed_networks),
    )
