"""Does the stored jobs, several at a time, each under a lease that is renewed while it runs."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from logging import getLogger

from errand_common.errors import ErrandError, ModelUnavailable
from errand_common.principal import acting_as

from errand_rag.domain.errors import DocumentRejected
from errand_rag.domain.models import Job, JobKind, background_principal
from errand_rag.domain.ports import Documents, Jobs

_logger = getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """Bounds on the background work."""

    concurrency: int = 2
    lease_seconds: float = 60.0
    poll_seconds: float = 1.0
    max_attempts: int = 8
    first_delay_seconds: float = 1.0
    max_delay_seconds: float = 60.0


class Worker:
    """Takes jobs until it is stopped.

    A job that fails for a passing reason is tried again with growing delays, at most
    `max_attempts` times; an attempt that a crash ended counts too, so that a document which kills
    the process does not do so for ever. Then its document is FAILED with the reason.
    """

    def __init__(
        self,
        *,
        jobs: Jobs,
        documents: Documents,
        handlers: Mapping[JobKind, Callable[[Job], Awaitable[None]]],
        when_idle: Callable[[], Awaitable[None]],
        owner: str,
        limits: WorkerLimits,
    ) -> None:
        self._jobs = jobs
        self._documents = documents
        self._handlers = handlers
        self._when_idle = when_idle
        self._owner = owner
        self._limits = limits
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def notify(self) -> None:
        """Says that a job was stored."""
        self._wake.set()

    async def start(self) -> None:
        """Takes back what a former process of this name held, then begins."""
        await self._jobs.release_owner(self._owner)
        self._tasks = [
            asyncio.create_task(self._loop(), name=f"rag-worker-{number}") for number in range(self._limits.concurrency)
        ]

    async def stop(self) -> None:
        """Ends the running jobs and gives them back; the next process takes them up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _loop(self) -> None:
        while True:
            self._wake.clear()
            try:
                job = await self._jobs.claim(self._owner, lease_seconds=self._limits.lease_seconds)
                if job is not None:
                    self._wake.set()  # another loop may find work too
                    await self._run(job)
                    continue
                await self._when_idle()
            except Exception:
                # The database is away for a while: the loop must outlive that.
                _logger.exception("rag worker: taking a job failed")
                await asyncio.sleep(self._limits.poll_seconds)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._limits.poll_seconds)

    async def _run(self, job: Job) -> None:
        work = asyncio.create_task(self._attempt(job))
        lease = asyncio.create_task(self._hold(job, work))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            if work.cancelled():
                return  # another process has the job by now
            settled = work.done()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            if not settled:
                await self._jobs.release(job.id, self._owner)
            raise
        finally:
            lease.cancel()
            await asyncio.gather(lease, return_exceptions=True)

    async def _hold(self, job: Job, work: asyncio.Task[None]) -> None:
        """Renews the lease; when another process has the job by now, this one lets go of it."""
        while True:
            await asyncio.sleep(self._limits.lease_seconds / 3)
            try:
                held = await self._jobs.renew(job.id, self._owner, lease_seconds=self._limits.lease_seconds)
            except Exception:
                _logger.exception("rag worker: renewing a lease failed")
                continue
            if not held:
                work.cancel()
                return

    async def _attempt(self, job: Job) -> None:
        if job.attempts > self._limits.max_attempts and job.kind is JobKind.INGEST:
            await self._give_up(job, f"interrupted {job.attempts - 1} times; giving up")
            return
        with acting_as(background_principal(job)):
            try:
                await self._handlers[job.kind](job)
            except DocumentRejected as rejected:
                await self._give_up(job, str(rejected))
            except ModelUnavailable as missing:
                await self._give_up(job, str(missing))
            except Exception as error:
                await self._again(job, error)
            else:
                await self._jobs.done(job.id, self._owner)

    async def _again(self, job: Job, error: Exception) -> None:
        known = isinstance(error, ErrandError)
        if not known:
            _logger.error("rag worker: job %s failed", job.id, exc_info=error)
        # Vectors of deleted text must go however long their store is away: no last attempt.
        if job.kind is JobKind.INGEST and job.attempts >= self._limits.max_attempts:
            reason = str(error) if known else "internal error; the service's log has the details"
            await self._give_up(job, f"{reason} (after {job.attempts} attempts)")
            return
        delay = self._limits.first_delay_seconds * 2 ** min(job.attempts - 1, 16)
        delay = min(delay, self._limits.max_delay_seconds)
        await self._jobs.postpone(job.id, self._owner, delay_seconds=delay)

    async def _give_up(self, job: Job, reason: str) -> None:
        await self._documents.fail(job.tenant_id, job.document_id, reason)
        await self._jobs.done(job.id, self._owner)
