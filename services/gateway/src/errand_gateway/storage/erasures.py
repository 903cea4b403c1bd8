"""Deletions of tenants, and what the gateway itself has of a tenant."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from errand_common.db import Database
from errand_common.erasure import erase_tenant
from errand_common.errors import NotFound
from sqlalchemy.ext.asyncio import AsyncSession

from errand_gateway.domain.auth import TenantState
from errand_gateway.domain.erasures import DeletionState, TenantDeletion
from errand_gateway.storage.models import AuditRow, Base, FollowedRunRow, KeyPrefixRow, TenantDeletionRow, TenantRow

_NOBODY: Final = ""
# Proof of what was done stays: it names ids and paths, and no content.
_KEPT: Final = frozenset({AuditRow.__tablename__})


class SqlDeletionRepository:
    """DeletionStore on the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, deletion: TenantDeletion) -> TenantDeletion:
        """Stores it and marks the tenant; the one there is when it was asked for before. Raises NotFound."""
        async with self._database.transaction(deletion.tenant_id) as session:
            tenant = await session.get(TenantRow, deletion.tenant_id, with_for_update=True)
            if tenant is None:
                raise NotFound("tenant", deletion.tenant_id)
            known = await session.get(TenantDeletionRow, deletion.tenant_id)
            if known is not None:
                return _deletion(known)
            tenant.state = TenantState.DELETING.value
            values = {"tenant": deletion.tenant_id, "owner": _NOBODY, "due_at": deletion.requested_at}
            session.add(TenantDeletionRow(**values, **_progress(deletion), **_order(deletion)))
        return deletion

    async def get(self, tenant_id: str) -> TenantDeletion:
        """One deletion; raises NotFound."""
        async with self._database.transaction(None, read_only=True) as session:
            row = await session.get(TenantDeletionRow, tenant_id)
        if row is None:
            raise NotFound("tenant deletion", tenant_id)
        return _deletion(row)

    async def claim(self, owner: str, *, now: datetime, lease: timedelta) -> TenantDeletion | None:
        """One that is due and that nobody works on, for this owner; None when there is none.

        `due_at` is also when a lease is over: what nobody keeps any more is due again.
        """
        due = sa.and_(TenantDeletionRow.state == DeletionState.RUNNING.value, TenantDeletionRow.due_at <= now)
        first = sa.select(TenantDeletionRow.tenant).where(due).order_by(TenantDeletionRow.due_at).limit(1)
        async with self._database.transaction(None, read_only=True) as session:
            tenant = await session.scalar(first)
        if tenant is None:
            return None
        taken = sa.update(TenantDeletionRow).where(TenantDeletionRow.tenant == tenant, due)
        async with self._database.transaction(None) as session:
            row = await session.scalar(taken.values(owner=owner, due_at=now + lease).returning(TenantDeletionRow))
            return _deletion(row) if row is not None else None

    async def keep(self, deletion: TenantDeletion, owner: str, *, until: datetime) -> bool:
        """Stores how far it is and keeps the lease until then; false when somebody else has it."""
        async with self._database.transaction(None) as session:
            return await _stored(session, deletion, owner, owner=owner, due_at=until)

    async def release(self, deletion: TenantDeletion, owner: str, *, due_at: datetime) -> None:
        """Stores how far it is and lets go; one that is completed marks the tenant as deleted."""
        async with self._database.transaction(deletion.tenant_id) as session:
            stored = await _stored(session, deletion, owner, owner=_NOBODY, due_at=due_at)
            if stored and deletion.state is DeletionState.COMPLETED:
                # The id stays taken: whoever came next under it would find the audit of this one.
                gone = {"state": TenantState.DELETED.value, "display_name": "", "allowed_networks": []}
                await session.execute(sa.update(TenantRow).where(TenantRow.id == deletion.tenant_id).values(gone))

    async def erase(self, tenant_id: str) -> Mapping[str, int]:
        """Deletes what the gateway has of a tenant, but not its audit; rows by table."""
        erased = {}
        async with self._database.transaction(None) as session:
            for table in (KeyPrefixRow, FollowedRunRow):
                found: Any = await session.execute(sa.delete(table).where(table.owner_tenant == tenant_id))
                erased[table.__tablename__] = found.rowcount
        erased |= await erase_tenant(self._database, Base.metadata, tenant_id, keep=_KEPT)
        return {table: rows for table, rows in erased.items() if rows}


async def _stored(session: AsyncSession, deletion: TenantDeletion, holder: str, **values: Any) -> bool:
    mine = sa.and_(TenantDeletionRow.tenant == deletion.tenant_id, TenantDeletionRow.owner == holder)
    result: Any = await session.execute(
        sa.update(TenantDeletionRow).where(mine).values(**values, **_progress(deletion))
    )
    return bool(result.rowcount)


def _order(deletion: TenantDeletion) -> dict[str, Any]:
    return {
        "requested_by": deletion.requested_by,
        "request_id": deletion.request_id,
        "requested_at": deletion.requested_at,
    }


def _progress(deletion: TenantDeletion) -> dict[str, Any]:
    return {
        "state": deletion.state.value,
        "completed_at": deletion.completed_at,
        "looks": deletion.looks,
        "failures": deletion.failures,
        "waits_for": deletion.waits_for,
        "erased": {service: dict(counts) for service, counts in deletion.erased.items()},
    }


def _deletion(row: TenantDeletionRow) -> TenantDeletion:
    return TenantDeletion(
        tenant_id=row.tenant,
        state=DeletionState(row.state),
        requested_by=row.requested_by,
        request_id=row.request_id,
        requested_at=row.requested_at,
        completed_at=row.completed_at,
        looks=row.looks,
        failures=row.failures,
        waits_for=row.waits_for,
        erased=row.erased,
    )
