"""The worker: retries, giving up, leases, stopping. Ports are fakes in memory."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from errand_common.errors import ModelUnavailable, Unavailable
from errand_common.principal import current_principal
from errand_rag.domain.errors import DocumentRejected
from errand_rag.domain.models import Job, JobKind
from errand_rag.domain.worker import Worker, WorkerLimits


class FakeJobs:
    """A queue in memory that remembers what was done to it."""

    def __init__(self, *jobs: Job) -> None:
        self.waiting = deque(jobs)
        self.log: list[tuple[str, str]] = []
        self.delays: list[float] = []
        self.held = True
        self.claim_fault: Exception | None = None

    async def claim(self, owner: str, *, lease_seconds: float) -> Job | None:
        if self.claim_fault:
            fault, self.claim_fault = self.claim_fault, None
            raise fault
        return self.waiting.popleft() if self.waiting else None

    async def renew(self, job_id: str, owner: str, *, lease_seconds: float) -> bool:
        return self.held

    async def done(self, job_id: str, owner: str) -> None:
        self.log.append(("done", job_id))

    async def postpone(self, job_id: str, owner: str, *, delay_seconds: float) -> None:
        self.log.append(("postponed", job_id))
        self.delays.append(delay_seconds)

    async def release(self, job_id: str, owner: str) -> None:
        self.log.append(("released", job_id))

    async def release_owner(self, owner: str) -> int:
        return 0


class FakeDocuments:
    def __init__(self) -> None:
        self.failures: list[tuple[str, str]] = []

    async def fail(self, tenant_id: str, document_id: str, reason: str) -> None:
        self.failures.append((document_id, reason))


def job(*, attempts: int = 1, kind: JobKind = JobKind.INGEST) -> Job:
    return Job("job_1", kind, "acme", "col_1", "doc_1", "ada", attempts)


class Bench:
    """A worker over the fakes."""

    def __init__(self, handler: Callable[[Job], Awaitable[None]], *jobs: Job, lease_seconds: float = 60) -> None:
        self.jobs, self.documents = FakeJobs(*jobs), FakeDocuments()
        self.worker = Worker(
            jobs=self.jobs,
            documents=self.documents,  # type: ignore[arg-type]
            handlers=dict.fromkeys(JobKind, handler),
            when_idle=self.idle,
            owner="me",
            limits=WorkerLimits(concurrency=1, lease_seconds=lease_seconds, poll_seconds=0.01, max_attempts=3),
        )

    async def idle(self) -> None:
        pass

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.worker.start()
        try:
            yield
        finally:
            await self.worker.stop()

    async def until(self, ended: Callable[[], object]) -> None:
        async with asyncio.timeout(10), self.running():
            while not ended():  # noqa: ASYNC110 - the fakes have no event
                await asyncio.sleep(0.005)


async def raising(error: Exception, given: Job) -> Bench:
    async def handler(_: Job) -> None:
        raise error

    bench = Bench(handler, given)
    await bench.until(lambda: bench.jobs.log)
    return bench


async def test_work_is_done_as_the_uploader_with_no_more_than_documents() -> None:
    seen = []

    async def handler(_: Job) -> None:
        seen.append(current_principal())

    bench = Bench(handler, job())
    await bench.until(lambda: bench.jobs.log)
    assert bench.jobs.log == [("done", "job_1")]
    assert (seen[0].tenant_id, seen[0].id, seen[0].scopes) == ("acme", "ada", frozenset({"documents"}))


async def test_a_rejected_document_fails_at_once_with_its_reason() -> None:
    bench = await raising(DocumentRejected("the PDF is encrypted"), job())
    assert bench.documents.failures == [("doc_1", "the PDF is encrypted")]
    assert bench.jobs.log == [("done", "job_1")]


async def test_a_model_that_is_not_served_fails_at_once() -> None:
    bench = await raising(ModelUnavailable("no such model", model="m"), job())
    assert bench.documents.failures == [("doc_1", "no such model")]


@pytest.mark.parametrize(("attempts", "delay"), [(1, 1.0), (2, 2.0)])
async def test_a_passing_fault_is_tried_again_with_growing_delay(attempts: int, delay: float) -> None:
    bench = await raising(Unavailable("inference"), job(attempts=attempts))
    assert bench.jobs.log == [("postponed", "job_1")]
    assert bench.jobs.delays == [delay]
    assert bench.documents.failures == []


async def test_the_last_attempt_fails_the_document_with_the_reason() -> None:
    bench = await raising(Unavailable("inference"), job(attempts=3))
    assert bench.documents.failures == [("doc_1", "The inference service is not available. (after 3 attempts)")]


async def test_a_fault_of_ours_tells_the_user_no_detail() -> None:
    bench = await raising(ZeroDivisionError("secret"), job(attempts=3))
    assert bench.documents.failures[0][1].startswith("internal error")


async def test_a_document_that_kills_the_process_is_given_up_without_another_try() -> None:
    tried = []

    async def handler(given: Job) -> None:
        tried.append(given)

    bench = Bench(handler, job(attempts=4))
    await bench.until(lambda: bench.jobs.log)
    assert tried == []
    assert bench.documents.failures == [("doc_1", "interrupted 3 times; giving up")]


async def test_vectors_of_deleted_text_are_never_given_up() -> None:
    bench = await raising(Unavailable("chroma"), job(attempts=500, kind=JobKind.PURGE_DOCUMENT))
    assert bench.jobs.log == [("postponed", "job_1")]
    assert bench.jobs.delays == [60.0]


async def test_stopping_gives_the_job_back() -> None:
    began = asyncio.Event()

    async def handler(_: Job) -> None:
        began.set()
        await asyncio.sleep(60)

    bench = Bench(handler, job())
    async with bench.running():
        await asyncio.wait_for(began.wait(), 5)
    assert bench.jobs.log == [("released", "job_1")]


async def test_stopping_just_as_a_job_ends_does_not_give_it_back() -> None:
    bench = Bench(lambda _: asyncio.sleep(0), job())
    async with asyncio.timeout(5):
        await bench.worker.start()
        while not bench.jobs.log:  # noqa: ASYNC110 - the fakes have no event
            await asyncio.sleep(0)
        await bench.worker.stop()
    assert bench.jobs.log == [("done", "job_1")]


async def test_a_lost_lease_stops_the_work_and_the_worker_goes_on() -> None:
    ended = []

    async def handler(given: Job) -> None:
        if given.attempts == 2:
            return
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(given)

    bench = Bench(handler, job(), job(attempts=2), lease_seconds=0.06)
    bench.jobs.held = False
    await bench.until(lambda: bench.jobs.log)
    assert len(ended) == 1
    assert bench.jobs.log == [("done", "job_1")]


async def test_the_loop_outlives_a_database_that_is_away() -> None:
    async def handler(_: Job) -> None:
        pass

    bench = Bench(handler, job())
    bench.jobs.claim_fault = Unavailable("database")
    await bench.until(lambda: bench.jobs.log)
    assert bench.jobs.log == [("done", "job_1")]
