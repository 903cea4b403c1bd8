"""Tenants in the database."""

import sqlalchemy as sa
from errand_common.db import Database, decode_page_token, encode_page_token
from errand_common.errors import AlreadyExists, Conflict, NotFound
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from errand_gateway.domain.auth import TenantState
from errand_gateway.domain.resources import Page, PageQuery
from errand_gateway.domain.tenants import Tenant
from errand_gateway.storage.models import TenantRow

_GONE = frozenset({TenantState.DELETING.value, TenantState.DELETED.value})


class SqlTenantRepository:
    """Tenants; managed by the operator alone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, tenant: Tenant) -> None:
        """Stores a tenant; raises AlreadyExists."""
        row = TenantRow(
            id=tenant.id,
            display_name=tenant.display_name,
            state=tenant.state.value,
            created_at=tenant.created_at,
            allowed_networks=list(tenant.allowed_networks),
        )
        try:
            async with self._database.transaction(tenant.id) as session:
                session.add(row)
        except IntegrityError as error:
            raise AlreadyExists("tenant", tenant.id) from error

    async def get(self, tenant_id: str) -> Tenant:
        """One tenant; raises NotFound."""
        async with self._database.transaction(tenant_id) as session:
            row = await session.get(TenantRow, tenant_id)
        if row is None:
            raise NotFound("tenant", tenant_id)
        return _tenant(row)

    async def list(self, page: PageQuery) -> Page[Tenant]:
        """All tenants, by id."""
        size = page.size or 50
        after = decode_page_token(page.token, length=1)
        query = sa.select(TenantRow).order_by(TenantRow.id).limit(size + 1)
        if after is not None:
            query = query.where(TenantRow.id > str(after[0]))
        async with self._database.transaction(None) as session:
            rows = list(await session.scalars(query))
        token = encode_page_token([rows[size - 1].id]) if len(rows) > size else ""
        return Page([_tenant(row) for row in rows[:size]], token)

    async def change(
        self, tenant_id: str, *, state: TenantState | None = None, allowed_networks: tuple[str, ...] | None = None
    ) -> Tenant:
        """Sets what is given; raises NotFound, and Conflict for a tenant that is being deleted."""
        async with self._database.transaction(tenant_id) as session:
            row = await session.get(TenantRow, tenant_id, with_for_update=True)
            if row is None:
                raise NotFound("tenant", tenant_id)
            if row.state in _GONE:
                raise Conflict(f"the tenant is {row.state}", resource="tenant", id=tenant_id)
            if state is not None:
                row.state = state.value
            if allowed_networks is not None:
                row.allowed_networks = list(allowed_networks)
            return _tenant(row)


async def check_takes_new(session: AsyncSession, tenant_id: str) -> None:
    """Raises NotFound for a tenant that is not there, or that is being deleted."""
    row = await session.get(TenantRow, tenant_id)
    if row is None or row.state in _GONE:
        raise NotFound("tenant", tenant_id)


def _tenant(row: TenantRow) -> Tenant:
    return Tenant(row.id, row.display_name, TenantState(row.state), row.created_at, tuple(row.allowed_networks))
