"""The durable queue."""

import asyncio

from errand_common.db import Database
from errand_rag.domain.models import Job, JobKind
from errand_rag.storage.jobs import SqlJobs, store_job


async def store(
    database: Database, document_id: str, *, owner: str | None = None, kind: JobKind = JobKind.INGEST
) -> Job:
    async with database.transaction("acme") as session:
        return store_job(
            session,
            kind,
            tenant_id="acme",
            collection_id="col",
            document_id=document_id,
            principal_id="u",
            lease_owner=owner,
        )


async def test_each_job_is_taken_once_by_workers_of_any_tenant(database: Database, jobs: SqlJobs) -> None:
    made = {(await store(database, f"doc{n}")).id for n in range(6)}
    taken = await asyncio.gather(*(jobs.claim(f"w{n}", lease_seconds=60) for n in range(8)))
    assert {job.id for job in taken if job} == made
    assert sum(job is not None for job in taken) == 6


async def test_a_lease_that_ran_out_is_anyones_and_the_former_holder_knows(database: Database, jobs: SqlJobs) -> None:
    await store(database, "doc")
    first = await jobs.claim("dead", lease_seconds=0)
    assert first is not None
    await asyncio.sleep(0.01)
    second = await jobs.claim("alive", lease_seconds=60)
    assert second is not None
    assert (second.id, second.attempts) == (first.id, 2)
    assert not await jobs.renew(first.id, "dead", lease_seconds=60)
    assert await jobs.renew(first.id, "alive", lease_seconds=60)
    await jobs.done(first.id, "dead")
    assert await jobs.renew(first.id, "alive", lease_seconds=60)


async def test_what_a_former_self_held_is_taken_back_at_once(database: Database, jobs: SqlJobs) -> None:
    await store(database, "doc")
    await jobs.claim("me", lease_seconds=3600)
    assert await jobs.claim("other", lease_seconds=60) is None
    assert await jobs.release_owner("me") == 1
    again = await jobs.claim("other", lease_seconds=60)
    assert again is not None
    assert again.attempts == 2


async def test_postponed_waits_and_released_does_not_count(database: Database, jobs: SqlJobs) -> None:
    await store(database, "doc")
    job = await jobs.claim("me", lease_seconds=60)
    assert job is not None
    await jobs.release(job.id, "me")
    job = await jobs.claim("me", lease_seconds=60)
    assert job is not None
    assert job.attempts == 1
    await jobs.postpone(job.id, "me", delay_seconds=60)
    assert await jobs.claim("me", lease_seconds=60) is None


async def test_done_is_gone_and_leased_from_birth_is_not_taken(database: Database, jobs: SqlJobs) -> None:
    job = await store(database, "doc", owner="me")
    assert await jobs.claim("other", lease_seconds=60) is None
    await jobs.done(job.id, "me")
    assert await jobs.release_owner("me") == 0


async def test_a_purge_knows_who_may_write_what_it_removes(database: Database, jobs: SqlJobs) -> None:
    purge = await store(database, "doc", owner="me", kind=JobKind.PURGE_DOCUMENT)
    whole = await store(database, "", owner="me", kind=JobKind.PURGE_COLLECTION)
    await store(database, "doc")
    other = await store(database, "other", owner="me")
    # One that waits reads what is there when it begins; one of another document stores none of this.
    assert [await jobs.writing(purge), await jobs.writing(whole)] == [False, True]
    await jobs.done(other.id, "me")
    assert not await jobs.writing(whole)
    for kind, document_id in ((JobKind.REINDEX, ""), (JobKind.RECONCILE, ""), (JobKind.INGEST, "doc")):
        writer = await store(database, document_id, owner="me", kind=kind)
        assert [await jobs.writing(purge), await jobs.writing(whole)] == [True, True]
        await jobs.done(writer.id, "me")


async def test_a_purge_that_waited_for_a_writer_is_due_when_that_ends(database: Database, jobs: SqlJobs) -> None:
    purge = await store(database, "doc", owner="me", kind=JobKind.PURGE_DOCUMENT)
    other, writer = (
        await store(database, "other", owner="me"),
        await store(database, "", owner="me", kind=JobKind.REINDEX),
    )
    await jobs.postpone(purge.id, "me", delay_seconds=3600)
    await jobs.done(other.id, "me")
    assert await jobs.claim("me", lease_seconds=60) is None
    await jobs.done(writer.id, "me")
    again = await jobs.claim("me", lease_seconds=60)
    assert again is not None
    assert (again.id, again.attempts) == (purge.id, 2)
