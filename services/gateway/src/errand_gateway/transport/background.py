"""Runs that go on when their request has been answered: what they use is booked when they end."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import structlog
from errand_common.db import new_id, utc_now
from errand_common.principal import Principal

from errand_gateway.domain.admission import Permit
from errand_gateway.domain.ports import AgentBackend
from errand_gateway.domain.pricing import Price
from errand_gateway.domain.quotas import Spend
from errand_gateway.domain.records import AuditEvent, Recorder, UsageRecord
from errand_gateway.domain.resources import Run, RunState, Usage
from errand_gateway.domain.workflows import WorkflowBackend, WorkflowRun, WorkflowState
from errand_gateway.transport.context import RequestContext
from errand_gateway.transport.internal_tokens import InternalTokens
from errand_gateway.transport.run_events import note_run

_log = structlog.get_logger(__name__)
_RUN_SECONDS: Final = 3600.0
_POLL_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class _Ended:
    """What of a run that ended is booked."""

    id: str
    path: str
    agent: str
    stop_reason: str
    usage: Usage
    created_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Watched:
    """How a run is looked at (None while it goes on), and what its usage is booked on."""

    look: Callable[[], Awaitable[_Ended | None]]
    run_id: str
    principal: Principal
    project: str
    price: Price
    reservation: Permit | None


class BackgroundRuns:
    """Follows runs until they end, at most an hour, and books what they used."""

    def __init__(
        self, agents: AgentBackend, workflows: WorkflowBackend, tokens: InternalTokens, recorder: Recorder
    ) -> None:
        self._agents = agents
        self._workflows = workflows
        self._tokens = tokens
        self._recorder = recorder
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(self, run: Run, context: RequestContext, *, start_at: datetime | None = None) -> None:
        """Takes over the request's reservation; the request itself is booked with nothing used.

        A run that begins later is followed for an hour from then.
        """

        async def look() -> _Ended | None:
            return _ended_run(await self._agents.get_run(run.id))

        wait = (start_at - utc_now()).total_seconds() if start_at is not None else 0.0
        self._watch(look, run.id, context, wait_seconds=max(0.0, wait))

    def follow_workflow(self, run: WorkflowRun, context: RequestContext) -> None:
        """The same for a workflow's run: what all its agents used is booked as one."""

        async def look() -> _Ended | None:
            return _ended_workflow(await self._workflows.get_workflow_run(run.id))

        self._watch(look, run.id, context)

    def _watch(
        self,
        look: Callable[[], Awaitable[_Ended | None]],
        run_id: str,
        context: RequestContext,
        *,
        wait_seconds: float = 0.0,
    ) -> None:
        if context.principal is None:
            return
        watched = _Watched(look, run_id, context.principal, context.project, context.price, context.reservation)
        context.reservation = None
        task = asyncio.create_task(self._follow(watched, wait_seconds))
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

    async def _follow(self, watched: _Watched, wait_seconds: float) -> None:
        try:
            await asyncio.sleep(wait_seconds)
            async with asyncio.timeout(_RUN_SECONDS):
                ended = await self._ended(watched)
            self._book(watched, ended)
        except Exception as error:
            _log.warning("background_run_not_booked", run_id=watched.run_id, error=type(error).__name__)
        finally:
            if watched.reservation is not None:
                watched.reservation.settle(Spend())

    async def _ended(self, watched: _Watched) -> _Ended:
        for attempt in range(int(_RUN_SECONDS)):
            await asyncio.sleep(_POLL_SECONDS[min(attempt, len(_POLL_SECONDS) - 1)])
            # Asked anew for each look: one token for the whole run would expire on the way.
            with self._tokens.acting_as(watched.principal):
                ended = await watched.look()
            if ended is not None:
                return ended
        raise TimeoutError

    def _book(self, watched: _Watched, run: _Ended) -> None:
        cost = watched.price.micros(run.usage)
        if watched.reservation is not None:
            tokens = run.usage.prompt_tokens + run.usage.completion_tokens
            watched.reservation.settle(Spend(tokens, cost))
        self._recorder.record(_audit(watched, run), replace(_usage(watched, run), cost_micros=cost))


def _ended_run(run: Run) -> _Ended | None:
    if run.state is not RunState.ENDED:
        return None
    reason = run.stop_reason.value if run.stop_reason else ""
    return _Ended(run.id, f"/api/v1/runs/{run.id}", run.agent, reason, run.usage, run.created_at, run.ended_at)


def _ended_workflow(run: WorkflowRun) -> _Ended | None:
    if run.state is WorkflowState.RUNNING:
        return None
    path = f"/api/v1/workflow-runs/{run.id}"
    return _Ended(run.id, path, "", run.state.value, run.usage, run.created_at, run.ended_at)


def _audit(watched: _Watched, run: _Ended) -> AuditEvent:
    principal = watched.principal
    return AuditEvent(
        tenant_id=principal.tenant_id,
        at=utc_now(),
        principal_id=principal.id,
        action="runs:ended",
        method="",
        path=run.path,
        status=200,
        request_id=principal.request_id,
    )


def _usage(watched: _Watched, run: _Ended) -> UsageRecord:
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
        stop_reason=run.stop_reason,
        prompt_tokens=run.usage.prompt_tokens,
        completion_tokens=run.usage.completion_tokens,
        cached_tokens=run.usage.cached_tokens,
        duration_ms=round(seconds * 1000, 3),
        created_at=utc_now(),
        project=watched.project,
    )
