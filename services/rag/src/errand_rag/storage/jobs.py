"""The durable queue, in the same database as the documents.

A job is stored in the transaction that stores its document, so that neither is ever without the
other; whoever holds the lease works on it, and a lease that runs out is anyone's.
"""

from datetime import timedelta

import sqlalchemy as sa
from errand_common.db import Database, new_id, utc_now
from sqlalchemy.ext.asyncio import AsyncSession

from errand_rag.domain.models import Job, JobKind
from errand_rag.storage.models import JobRow

_INLINE_LEASE_SECONDS = 60.0
PURGES = (JobKind.PURGE_DOCUMENT.value, JobKind.PURGE_COLLECTION.value)
_WRITERS = (JobKind.INGEST.value, JobKind.REINDEX.value, JobKind.RECONCILE.value)


def store_job(
    session: AsyncSession,
    kind: JobKind,
    *,
    tenant_id: str,
    collection_id: str,
    document_id: str,
    principal_id: str,
    lease_owner: str | None = None,
    lease_seconds: float = _INLINE_LEASE_SECONDS,
    priority: int = 0,
    index: str = "",
    delay_seconds: float = 0.0,
) -> Job:
    """Adds a job to the transaction; with an owner it is leased to it from the start."""
    now = utc_now()
    row = JobRow(
        id=new_id("job"),
        kind=kind.value,
        tenant_id=tenant_id,
        collection_id=collection_id,
        document_id=document_id,
        principal_id=principal_id,
        attempts=1 if lease_owner else 0,
        priority=priority,
        index_name=index,
        run_at=now + timedelta(seconds=delay_seconds),
        lease_owner=lease_owner,
        lease_until=now + timedelta(seconds=lease_seconds) if lease_owner else None,
    )
    session.add(row)
    return row.to_domain()


class SqlJobs:
    """Jobs on SQLite or Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, owner: str, *, lease_seconds: float) -> Job | None:
        """Leases the most urgent job, of those the one that waits longest; a lease that ran out is none."""
        now = utc_now()
        free = sa.or_(JobRow.lease_until.is_(None), JobRow.lease_until < now)
        waiting = (
            sa.select(JobRow.id)
            .where(JobRow.run_at <= now, free)
            .order_by(JobRow.priority.desc(), JobRow.run_at, JobRow.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        take = (
            sa.update(JobRow)
            .where(JobRow.id.in_(waiting.scalar_subquery()))
            .values(
                attempts=JobRow.attempts + 1,
                lease_owner=owner,
                lease_until=now + timedelta(seconds=lease_seconds),
            )
            .returning(JobRow)
            .execution_options(synchronize_session=False)
        )
        async with self._database.transaction() as session:
            row = (await session.execute(take)).scalar_one_or_none()
            return row.to_domain() if row else None

    async def renew(self, job_id: str, owner: str, *, lease_seconds: float) -> bool:
        """False when another holds it by now."""
        until = utc_now() + timedelta(seconds=lease_seconds)
        return await self._update(job_id, owner, lease_until=until)

    async def done(self, job_id: str, owner: str) -> None:
        """Removes it; purges that waited for its end are tried again now."""
        end = (
            sa.delete(JobRow)
            .where(*_held(job_id, owner))
            .returning(JobRow.kind, JobRow.collection_id, JobRow.document_id)
        )
        async with self._database.transaction() as session:
            ended = (await session.execute(end)).one_or_none()
            if ended is not None and ended.kind in _WRITERS:
                await session.execute(_hasten(ended.collection_id, ended.document_id))

    async def postpone(self, job_id: str, owner: str, *, delay_seconds: float) -> None:
        """Gives it back, to be taken after the delay."""
        run_at = utc_now() + timedelta(seconds=delay_seconds)
        await self._update(job_id, owner, run_at=run_at, lease_owner=None, lease_until=None)

    async def release(self, job_id: str, owner: str) -> None:
        """Gives it back as if never taken."""
        await self._update(job_id, owner, attempts=JobRow.attempts - 1, lease_owner=None, lease_until=None)

    async def writing(self, purge: Job) -> bool:
        """Whether a job is at work that may store vectors of what this one removes."""
        # A lease that ran out counts: its holder may have been halted between reading and storing.
        query = sa.select(JobRow.id).where(
            JobRow.kind.in_(_WRITERS),
            JobRow.collection_id == purge.collection_id,
            JobRow.lease_owner.is_not(None),
        )
        if purge.document_id:
            query = query.where(JobRow.document_id.in_((purge.document_id, "")))
        async with self._database.transaction(read_only=True) as session:
            return (await session.execute(query.limit(1))).first() is not None

    async def sweep_later(self, purge: Job, *, delay_seconds: float) -> None:
        """Stores the job that drops the index once more, unless it is stored."""
        stored = sa.select(JobRow.id).where(JobRow.kind == JobKind.SWEEP_INDEX.value, JobRow.index_name == purge.index)
        async with self._database.transaction() as session:
            if (await session.execute(stored.limit(1))).first() is None:
                store_job(
                    session,
                    JobKind.SWEEP_INDEX,
                    tenant_id=purge.tenant_id,
                    collection_id=purge.collection_id,
                    document_id="",
                    principal_id="",
                    index=purge.index,
                    delay_seconds=delay_seconds,
                )

    async def release_owner(self, owner: str) -> int:
        """Gives back what a former process of this name held; its attempts stay counted."""
        free = sa.update(JobRow).values(lease_owner=None, lease_until=None)
        async with self._database.transaction() as session:
            result = await session.execute(free.where(JobRow.lease_owner == owner))
            return int(getattr(result, "rowcount", 0))

    async def _update(self, job_id: str, owner: str, **values: object) -> bool:
        async with self._database.transaction() as session:
            statement = sa.update(JobRow).where(*_held(job_id, owner)).values(**values)
            result = await session.execute(statement)
            return bool(getattr(result, "rowcount", 0))


def _hasten(collection_id: str, document_id: str) -> sa.Update:
    """Makes purges due that were tried while a writer was at work."""
    tried = (
        sa.update(JobRow)
        .where(JobRow.collection_id == collection_id, JobRow.kind.in_(PURGES))
        .where(JobRow.attempts > 0, JobRow.lease_owner.is_(None))
        .values(run_at=utc_now())
    )
    return tried.where(JobRow.document_id == document_id) if document_id else tried


def _held(job_id: str, owner: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (JobRow.id == job_id, JobRow.lease_owner == owner)
