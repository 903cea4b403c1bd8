"""Usage rows and the audit log in the database."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from errand_common.db import Database, decode_page_token, encode_page_token
from sqlalchemy.ext.asyncio import AsyncSession

from errand_gateway.domain.records import (
    FIRST_HASH,
    REPORT_ROWS,
    AuditEntry,
    AuditEvent,
    ChainCheck,
    ChainVerifier,
    UsageGroup,
    UsageRecord,
    UsageTotals,
    chain,
)
from errand_gateway.domain.resources import Page, PageQuery
from errand_gateway.storage.bulk import BulkInsert
from errand_gateway.storage.models import ApiKeyRow, AuditRow, Base, TenantRow, UsageRow

T = TypeVar("T")
_BATCH: Final = 1_000
# A record that a process left behind is at most so many entries from the end of its chain.
_RECOVERY_ROWS: Final = 1_000_000
_USAGE: Final = BulkInsert(Base.metadata.tables[UsageRow.__tablename__], {})
_OF_EVENT: Final = {name: f"event.{name}" for name in AuditEvent.__slots__}
_AUDIT: Final = BulkInsert(Base.metadata.tables[AuditRow.__tablename__], _OF_EVENT)
_GROUPS: Final[Mapping[UsageGroup, sa.ColumnElement[str]]] = {
    UsageGroup.PROJECT: UsageRow.project.expression,
    UsageGroup.AGENT: UsageRow.agent.expression,
    UsageGroup.MODEL: UsageRow.model.expression,
    UsageGroup.KEY: UsageRow.key_id.expression,
}
_SUMMED: Final = (
    UsageRow.prompt_tokens,
    UsageRow.completion_tokens,
    UsageRow.cached_tokens,
    UsageRow.cost_micros,
)


class SqlRecordRepository:
    """Records in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self,
        tenant_id: str,
        usage: Sequence[UsageRecord],
        audit: Sequence[AuditEvent],
        used_at: Mapping[str, datetime],
    ) -> None:
        """Stores a tenant's records in one transaction."""
        async with self._database.transaction(tenant_id) as session:
            await self._lock_chain(session, tenant_id)
            await _USAGE.execute(session, usage)
            last_sequence, last_hash = await self._chain_end(session, tenant_id)
            entries = chain(audit, last_sequence=last_sequence, last_hash=last_hash)
            await _AUDIT.execute(session, entries)
            for key_id, moment in used_at.items():
                await session.execute(
                    sa.update(ApiKeyRow)
                    .where(ApiKeyRow.id == key_id, ApiKeyRow.tenant_id == tenant_id)
                    .values(last_used_at=moment)
                )

    async def add_missing(self, tenant_id: str, usage: Sequence[UsageRecord], audit: Sequence[AuditEvent]) -> int:
        """Stores those that are not there yet in one transaction; how many requests that were."""
        async with self._database.transaction(tenant_id) as session:
            await self._lock_chain(session, tenant_id)
            last_sequence, last_hash = await self._chain_end(session, tenant_id)
            known_usage = await _known_usage(session, tenant_id, usage)
            new_usage = [row for row in usage if row.id not in known_usage]
            await _USAGE.execute(session, new_usage)
            known = await _known_events(session, tenant_id, audit, after=last_sequence - _RECOVERY_ROWS)
            missing = [event for event in audit if (event.request_id, event.at) not in known]
            entries = chain(missing, last_sequence=last_sequence, last_hash=last_hash)
            await _AUDIT.execute(session, entries)
        return len(missing)

    async def _lock_chain(self, session: AsyncSession, tenant_id: str) -> None:
        # Two gateways on one Postgres must not continue the chain from the same entry. On SQLite
        # every transaction holds the write lock from its beginning.
        await session.execute(sa.select(TenantRow.id).where(TenantRow.id == tenant_id).with_for_update())

    async def _chain_end(self, session: AsyncSession, tenant_id: str) -> tuple[int, str]:
        last = (
            await session.execute(
                sa.select(AuditRow.sequence, AuditRow.hash)
                .where(AuditRow.tenant_id == tenant_id)
                .order_by(AuditRow.sequence.desc())
                .limit(1)
            )
        ).first()
        return (last.sequence, last.hash) if last else (0, FIRST_HASH)

    async def list_usage(
        self,
        tenant_id: str,
        page: PageQuery,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Page[UsageRecord]:
        """The tenant's usage rows, newest first."""
        size = page.size or 50
        after = decode_page_token(page.token, length=1)
        query = sa.select(UsageRow).where(UsageRow.tenant_id == tenant_id).order_by(UsageRow.id.desc()).limit(size + 1)
        if after is not None:
            query = query.where(UsageRow.id < str(after[0]))
        if since is not None:
            query = query.where(UsageRow.created_at >= since)
        if until is not None:
            query = query.where(UsageRow.created_at < until)
        async with self._database.transaction(tenant_id) as session:
            rows = list(await session.scalars(query))
        token = encode_page_token([rows[size - 1].id]) if len(rows) > size else ""
        return Page([_usage(row) for row in rows[:size]], token)

    async def report_usage(
        self, tenant_id: str, by: Sequence[UsageGroup], *, since: datetime, until: datetime
    ) -> Sequence[UsageTotals]:
        """Totals of the tenant's usage, the dearest groups first."""
        columns = [self._group_column(group).label(group.value) for group in by]
        failed = sa.func.sum(sa.case((UsageRow.status >= 400, 1), else_=0))
        totals = [
            sa.func.count().label("requests"),
            failed.label("failed"),
            *(sa.cast(sa.func.sum(column), sa.BigInteger) for column in _SUMMED),
            sa.func.avg(UsageRow.duration_ms),
        ]
        query = (
            sa.select(*columns, *totals)
            .where(UsageRow.tenant_id == tenant_id, UsageRow.created_at >= since, UsageRow.created_at < until)
            .group_by(*columns)
            .order_by(sa.func.sum(UsageRow.cost_micros).desc(), *columns)
            .limit(REPORT_ROWS)
        )
        async with self._database.transaction(tenant_id, read_only=True) as session:
            rows = (await session.execute(query)).all()
        return [_totals(by, tuple(row)) for row in rows if row[len(by)]]

    def _group_column(self, group: UsageGroup) -> sa.ColumnElement[str]:
        if group is not UsageGroup.DAY:
            return _GROUPS[group]
        if self._database.is_postgres:
            return sa.func.to_char(sa.func.timezone("UTC", UsageRow.created_at), sa.literal_column("'YYYY-MM-DD'"))
        return sa.func.strftime(sa.literal_column("'%Y-%m-%d'"), UsageRow.created_at)

    async def list_audit(self, tenant_id: str, page: PageQuery) -> Page[AuditEntry]:
        """The tenant's audit entries, newest first."""
        size = page.size or 50
        after = decode_page_token(page.token, length=1)
        query = (
            sa.select(AuditRow)
            .where(AuditRow.tenant_id == tenant_id)
            .order_by(AuditRow.sequence.desc())
            .limit(size + 1)
        )
        if after is not None:
            query = query.where(AuditRow.sequence < _whole(after[0]))
        async with self._database.transaction(tenant_id) as session:
            rows = list(await session.scalars(query))
        token = encode_page_token([rows[size - 1].sequence]) if len(rows) > size else ""
        return Page([_audit(row) for row in rows[:size]], token)

    async def verify_audit(self, tenant_id: str) -> ChainCheck:
        """Recomputes the tenant's whole chain."""
        verifier = ChainVerifier()
        last = 0
        while True:
            query = (
                sa.select(AuditRow)
                .where(AuditRow.tenant_id == tenant_id, AuditRow.sequence > last)
                .order_by(AuditRow.sequence)
                .limit(_BATCH)
            )
            async with self._database.transaction(tenant_id) as session:
                rows = list(await session.scalars(query))
            if not rows:
                return verifier.result()
            verifier.follow([_audit(row) for row in rows])
            last = rows[-1].sequence


async def _known_usage(session: AsyncSession, tenant_id: str, usage: Sequence[UsageRecord]) -> set[str]:
    found: set[str] = set()
    for rows in _batches(usage):
        ids = [row.id for row in rows]
        query = sa.select(UsageRow.id).where(UsageRow.tenant_id == tenant_id, UsageRow.id.in_(ids))
        found.update(await session.scalars(query))
    return found


async def _known_events(
    session: AsyncSession, tenant_id: str, audit: Sequence[AuditEvent], *, after: int
) -> set[tuple[str, datetime]]:
    found: set[tuple[str, datetime]] = set()
    for events in _batches(audit):
        query = sa.select(AuditRow.request_id, AuditRow.at).where(
            AuditRow.tenant_id == tenant_id,
            AuditRow.sequence > after,
            AuditRow.request_id.in_([event.request_id for event in events]),
        )
        found.update((row.request_id, row.at) for row in await session.execute(query))
    return found


def _batches(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    return (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))


def _whole(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**63 else 0


def _totals(by: Sequence[UsageGroup], row: Sequence[Any]) -> UsageTotals:
    names, figures = row[: len(by)], row[len(by) :]
    requests, failed, prompt, completion, cached, cost, average = figures
    group = {name.value: str(value) for name, value in zip(by, names, strict=True)}
    return UsageTotals(group, requests, failed, prompt, completion, cached, cost, round(average, 3))


def _usage(row: UsageRow) -> UsageRecord:
    return UsageRecord(**{name: getattr(row, name) for name in UsageRecord.__slots__})


def _audit(row: AuditRow) -> AuditEntry:
    event = AuditEvent(**{name: getattr(row, name) for name in AuditEvent.__slots__})
    return AuditEntry(row.sequence, event, row.previous_hash, row.hash)
