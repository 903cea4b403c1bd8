"""Runs that go on when their request has been answered: what they use is booked when they end."""

import asyncio
from dataclasses import dataclass, replace
from typing import Final

import structlog
from errand_common.db import new_id, utc_now
from errand_common.principal import Principal
from errand_common.rpc.client import acting_as
from errand_common.tokens import TokenSigner

from errand_gateway.domain.ports import AgentBackend
from errand_gateway.domain.pricing import Price
from errand_gateway.domain.quota_keeper import Reservation
from errand_gateway.domain.quotas import Spend
from errand_gateway.domain.records import AuditEvent, Recorder, UsageRecord
from errand_gateway.domain.resources import Run, RunState
from errand_gateway.transport.context import RequestContext
from errand_gateway.transport.run_events import note_run

_log = structlog.get_logger(__name__)
_RUN_SECONDS: Final = 3600.0
_POLL_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class _Watched:
    """A run and what its usage is booked on."""

    run: Run
    principal: Principal
    project: str
    price: Price
    reservation: Reservation | None


class BackgroundRuns:
    """Follows runs until they end, at most an hour, and books what they used."""

    def __init__(self, agents: AgentBackend, signer: TokenSigner, recorder: Recorder) -> None:
        self._agents = agents
        self._signer = signer
        self._recorder = recorder
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(self, run: Run, context: RequestContext) -> None:
        """Takes over the request's reservation; the request itself is booked with nothing used."""
        if context.principal is None:
            return
        watched = _Watched(run, context.principal, context.project, context.price, context.reservation)
        context.reservation = None
        task = asyncio.create_task(self._follow(watched))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def note_or_follow(self, run: Run, context: RequestContext) -> None:
        """Books a run that has ended, and follows one that waits for a person."""
        if run.state is RunState.ENDED:
            note_run(run, context)
            return
        context.run_id, context.agent = run.id, run.agent
        self.follow(run, context)

    async def close(self) -> None:
        """Stops following; what running work holds goes back when this gateway's lease does."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, watched: _Watched) -> None:
        try:
            async with asyncio.timeout(_RUN_SECONDS):
                ended = await self._ended(watched)
            self._book(watched, ended)
        except Exception as error:
            _log.warning("background_run_not_booked", run_id=watched.run.id, error=type(error).__name__)
        finally:
            if watched.reservation is not None:
                watched.reservation.settle(Spend())

    async def _ended(self, watched: _Watched) -> Run:
        for attempt in range(int(_RUN_SECONDS)):
            await asyncio.sleep(_POLL_SECONDS[min(attempt, len(_POLL_SECONDS) - 1)])
            # A token for each look: one for the whole run would expire on the way.
            with acting_as(watched.principal, signer=self._signer):
                run = await self._agents.get_run(watched.run.id)
            if run.state is RunState.ENDED:
                return run
        raise TimeoutError

    def _book(self, watched: _Watched, run: Run) -> None:
        cost = watched.price.micros(run.usage)
        if watched.reservation is not None:
            tokens = run.usage.prompt_tokens + run.usage.completion_tokens
            watched.reservation.settle(Spend(tokens, cost))
        self._recorder.record(_audit(watched), replace(_usage(watched, run), cost_micros=cost))


def _audit(watched: _Watched) -> AuditEvent:
    principal = watched.principal
    return AuditEvent(
        tenant_id=principal.tenant_id,
        at=utc_now(),
        principal_id=principal.id,
        action="runs:ended",
        method="",
        path=f"/api/v1/runs/{watched.run.id}",
        status=200,
        request_id=principal.request_id,
    )


def _usage(watched: _Watched, run: Run) -> UsageRecord:
    moments = (run.created_at, run.ended_at)
    seconds = (moments[1] - moments[0]).total_seconds() if moments[0] and moments[1] else 0.0
    return UsageRecord(
        id=new_id("use"),
        tenant_id=watched.principal.tenant_id,
        key_id=watched.principal.id,
        request_id=watched.principal.request_id,
        action="runs:ended",
        agent=run.agent[:128],
        model="",
        run_id=run.id,
        status=200,
        stop_reason=run.stop_reason.value if run.stop_reason else "",
        prompt_tokens=run.usage.prompt_tokens,
        completion_tokens=run.usage.completion_tokens,
        cached_tokens=run.usage.cached_tokens,
        duration_ms=round(seconds * 1000, 3),
        created_at=utc_now(),
        project=watched.project,
    )
