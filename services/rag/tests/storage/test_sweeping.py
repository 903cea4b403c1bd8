"""An index that is written to after it was dropped: by a process that was halted and then ended."""

import sqlalchemy as sa
from errand_common.db import Database, utc_now
from errand_rag.domain.models import Job, JobKind, VectorEntry
from errand_rag.domain.purging import Purger
from errand_rag.storage.collections import SqlCollections
from errand_rag.storage.jobs import SqlJobs
from errand_rag.storage.models import JobRow
from errand_rag.storage.scrubbing import SqlScrubber
from errand_rag.testing.records import make_collection
from errand_rag.testing.vectors import InMemoryVectorStore

VECTORS = [VectorEntry("chk", "doc", (1.0, 0.0))]


async def due(database: Database, jobs: SqlJobs) -> Job | None:
    """The next job once all waiting is over."""
    async with database.transaction() as session:
        await session.execute(sa.update(JobRow).values(run_at=utc_now()))
    return await jobs.claim("me", lease_seconds=60)


async def test_it_is_dropped_again_later(database: Database, collections: SqlCollections, jobs: SqlJobs) -> None:
    vectors = InMemoryVectorStore()
    purger = Purger(collections, jobs, vectors, SqlScrubber(database), caches=(), owner="me")
    made = await make_collection(collections, "one")
    job = await collections.delete("acme", made.id, principal_id="u")
    await purger.try_now(job)
    await vectors.upsert(made.index, VECTORS)
    assert await jobs.claim("me", lease_seconds=60) is None
    sweep = await due(database, jobs)
    assert sweep is not None
    assert (sweep.kind, sweep.index, sweep.tenant_id) == (JobKind.SWEEP_INDEX, made.id, "acme")
    await purger.sweep(sweep)
    assert await vectors.count(made.index) == 0


async def test_its_name_is_not_used_before_and_an_index_in_use_stays(
    database: Database, collections: SqlCollections, jobs: SqlJobs
) -> None:
    vectors = InMemoryVectorStore()
    purger = Purger(collections, jobs, vectors, SqlScrubber(database), caches=(), owner="me")
    made = await make_collection(collections, "one")
    await collections.start_building("acme", made.id, "model", principal_id="u")
    await collections.abandon_building("acme", made.id, principal_id="u")
    while (job := await due(database, jobs)) is not None and job.kind is not JobKind.SWEEP_INDEX:
        if job.kind is JobKind.PURGE_COLLECTION:
            await purger.run(job)
        await jobs.done(job.id, "me")
    assert job is not None
    assert job.index == f"{made.id}-g1"
    building = await collections.start_building("acme", made.id, "model", principal_id="u")
    assert building.building_index == f"{made.id}-g2"
    await jobs.done(job.id, "me")
    # As after a database that was restored to an earlier time: the name is in use again.
    await collections.finish_building("acme", made.id, frozenset(), principal_id="u")
    await vectors.upsert(f"{made.id}-g2", VECTORS)
    await purger.sweep(Job("job", JobKind.SWEEP_INDEX, "acme", made.id, "", "u", 1, f"{made.id}-g2"))
    assert await vectors.count(f"{made.id}-g2") == 1


async def test_one_sweep_of_an_index_is_stored(database: Database, jobs: SqlJobs) -> None:
    purge = Job("job", JobKind.PURGE_COLLECTION, "acme", "col", "", "u", 1, "col")
    for _ in range(3):
        await jobs.sweep_later(purge, delay_seconds=0)
    first = await jobs.claim("me", lease_seconds=60)
    assert first is not None
    await jobs.done(first.id, "me")
    assert await jobs.claim("me", lease_seconds=60) is None
