"""Quotas and what is spent of them, in the database."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from errand_common.db import Database, decode_page_token, encode_page_token
from errand_common.errors import AlreadyExists, Conflict, NotFound
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from errand_gateway.domain.quotas import (
    SLICE_FRACTION,
    Quota,
    QuotaMeasure,
    QuotaPeriod,
    QuotaState,
    QuotaSubject,
    period_start,
)
from errand_gateway.domain.resources import Page, PageQuery
from errand_gateway.storage.models import ApiKeyRow, QuotaCounterRow, QuotaLeaseRow, QuotaRow, UserRow
from errand_gateway.storage.tenants import check_takes_new


class SqlQuotaRepository:
    """QuotaAdmin and QuotaLedger on the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, quota: Quota) -> None:
        """Stores a quota; raises AlreadyExists, or NotFound without its subject."""
        try:
            async with self._database.transaction(quota.tenant_id) as session:
                await _check_subject(session, quota)
                session.add(QuotaRow(**{name: getattr(quota, name) for name in Quota.__slots__}))
        except IntegrityError as error:
            raise AlreadyExists("quota", f"{quota.subject}/{quota.period}/{quota.measure}") from error

    async def get(self, tenant_id: str, quota_id: str, now: datetime) -> QuotaState:
        """One quota; raises NotFound."""
        async with self._database.transaction(tenant_id, read_only=True) as session:
            row = await _find(session, tenant_id, quota_id)
            return await _state(session, _quota(row), now)

    async def list(self, tenant_id: str, page: PageQuery, now: datetime) -> Page[QuotaState]:
        """The tenant's quotas, newest first."""
        size = page.size or 50
        after = decode_page_token(page.token, length=1)
        query = sa.select(QuotaRow).where(QuotaRow.tenant_id == tenant_id).order_by(QuotaRow.id.desc()).limit(size + 1)
        if after is not None:
            query = query.where(QuotaRow.id < str(after[0]))
        async with self._database.transaction(tenant_id, read_only=True) as session:
            rows = [*await session.scalars(query)]
            states = [await _state(session, _quota(row), now) for row in rows[:size]]
        return Page(states, encode_page_token([rows[size - 1].id]) if len(rows) > size else "")

    async def set_amount(self, tenant_id: str, quota_id: str, amount: int, *, expected_version: int) -> None:
        """Changes the limit; raises NotFound, or Conflict when another version is in place."""
        async with self._database.transaction(tenant_id) as session:
            row = await _find(session, tenant_id, quota_id, lock=True)
            if expected_version not in (0, row.version):
                raise Conflict(f"the quota is at version {row.version}; read it again", resource="quota", id=quota_id)
            row.amount, row.version = amount, row.version + 1

    async def delete(self, tenant_id: str, quota_id: str) -> None:
        """Removes a quota and its counts; raises NotFound."""
        async with self._database.transaction(tenant_id) as session:
            await session.delete(await _find(session, tenant_id, quota_id))

    async def of_tenant(self, tenant_id: str) -> Sequence[Quota]:
        """All quotas of a tenant."""
        query = sa.select(QuotaRow).where(QuotaRow.tenant_id == tenant_id).order_by(QuotaRow.id)
        async with self._database.transaction(tenant_id, read_only=True) as session:
            return [_quota(row) for row in await session.scalars(query)]

    async def lease(
        self, quota: Quota, start: str, need: int, *, holder: str, now: datetime, expires_at: datetime
    ) -> int:
        """Sets aside at least `need` for a gateway and says how much; 0 when that much is not left."""
        async with self._database.transaction(quota.tenant_id) as session:
            limit = await session.scalar(sa.select(QuotaRow.amount).where(QuotaRow.id == quota.id))
            if limit is None:
                return need
            counter = await self._counter(session, quota, start)
            room = limit - counter.spent - counter.leased
            if room < need:
                room += await _free_expired(session, counter, now)
            if room < need:
                return 0
            granted = min(room, max(need, room // SLICE_FRACTION))
            counter.leased += granted
            lease = await self._lease_row(session, quota, start, holder, expires_at)
            lease.held += granted
            lease.expires_at = expires_at
            return granted

    async def report(
        self, quota: Quota, start: str, *, spent: int, returned: int, holder: str, expires_at: datetime
    ) -> None:
        """Books what a gateway spent of its lease, takes back what it returns, and renews the rest."""
        async with self._database.transaction(quota.tenant_id) as session:
            if await session.scalar(sa.select(QuotaRow.id).where(QuotaRow.id == quota.id)) is None:
                return
            counter = await self._counter(session, quota, start)
            lease = await self._lease_row(session, quota, start, holder, expires_at)
            # A lease that expired was given back by another gateway; what was spent of it still counts.
            less = min(lease.held, spent + returned)
            lease.held -= less
            lease.expires_at = expires_at
            counter.leased -= less
            counter.spent += spent

    async def _counter(self, session: AsyncSession, quota: Quota, start: str) -> QuotaCounterRow:
        values = {"quota_id": quota.id, "period_start": start, "tenant_id": quota.tenant_id, "spent": 0, "leased": 0}
        await session.execute(self._insert(QuotaCounterRow).values(values).on_conflict_do_nothing())
        query = sa.select(QuotaCounterRow).where(
            QuotaCounterRow.quota_id == quota.id, QuotaCounterRow.period_start == start
        )
        return (await session.scalars(query.with_for_update())).one()

    async def _lease_row(
        self, session: AsyncSession, quota: Quota, start: str, holder: str, expires_at: datetime
    ) -> QuotaLeaseRow:
        values = {
            "quota_id": quota.id,
            "period_start": start,
            "holder": holder,
            "tenant_id": quota.tenant_id,
            "held": 0,
            "expires_at": expires_at,
        }
        await session.execute(self._insert(QuotaLeaseRow).values(values).on_conflict_do_nothing())
        return (await session.scalars(_leases(quota.id, start).where(QuotaLeaseRow.holder == holder))).one()

    def _insert(self, row: type[QuotaCounterRow | QuotaLeaseRow]) -> postgresql.Insert | sqlite.Insert:
        return postgresql.insert(row) if self._database.is_postgres else sqlite.insert(row)


def _leases(quota_id: str, start: str) -> sa.Select[QuotaLeaseRow]:
    return sa.select(QuotaLeaseRow).where(QuotaLeaseRow.quota_id == quota_id, QuotaLeaseRow.period_start == start)


async def _free_expired(session: AsyncSession, counter: QuotaCounterRow, now: datetime) -> int:
    """Takes back what gateways held that did not renew their leases."""
    query = _leases(counter.quota_id, counter.period_start).where(QuotaLeaseRow.expires_at < now)
    freed = 0
    for lease in await session.scalars(query):
        freed += lease.held
        await session.delete(lease)
    counter.leased -= freed
    return freed


async def _check_subject(session: AsyncSession, quota: Quota) -> None:
    await check_takes_new(session, quota.tenant_id)
    if quota.subject is QuotaSubject.TENANT:
        return
    rows = ApiKeyRow if quota.subject is QuotaSubject.KEY else UserRow
    found = await session.scalar(
        sa.select(rows.id).where(rows.id == quota.subject_id, rows.tenant_id == quota.tenant_id)
    )
    if found is None:
        raise NotFound(quota.subject.value, quota.subject_id)


async def _find(session: AsyncSession, tenant_id: str, quota_id: str, *, lock: bool = False) -> QuotaRow:
    query = sa.select(QuotaRow).where(QuotaRow.id == quota_id, QuotaRow.tenant_id == tenant_id)
    row = await session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise NotFound("quota", quota_id)
    return row


async def _state(session: AsyncSession, quota: Quota, now: datetime) -> QuotaState:
    start = period_start(quota.period, now)
    query = sa.select(QuotaCounterRow.spent, QuotaCounterRow.leased).where(
        QuotaCounterRow.quota_id == quota.id, QuotaCounterRow.period_start == start
    )
    row = (await session.execute(query)).first()
    return QuotaState(quota, start, row.spent if row else 0, row.leased if row else 0)


def _quota(row: QuotaRow) -> Quota:
    return Quota(
        id=row.id,
        tenant_id=row.tenant_id,
        subject=QuotaSubject(row.subject),
        subject_id=row.subject_id,
        period=QuotaPeriod(row.period),
        measure=QuotaMeasure(row.measure),
        amount=row.amount,
        version=row.version,
        created_at=row.created_at,
    )
