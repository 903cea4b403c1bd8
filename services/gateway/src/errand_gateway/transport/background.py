"""Runs that go on when their request has been answered: what they use is booked when they end."""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import structlog
from errand_common.db import new_id, utc_now
from errand_common.errors import ErrandError, NotFound, QuotaExceeded, Unavailable

from errand_gateway.domain.admission import Permit
from errand_gateway.domain.followed import FollowedKind, FollowedRun, FollowedStore
from errand_gateway.domain.ports import AgentBackend
from errand_gateway.domain.quota_keeper import QuotaKeeper, Reservation
from errand_gateway.domain.quotas import Spend
from errand_gateway.domain.records import AuditEvent, Recorder, UsageRecord
from errand_gateway.domain.resources import Run, RunState, Usage
from errand_gateway.domain.workflows import WorkflowBackend, WorkflowRun, WorkflowState
from errand_gateway.transport.context import RequestContext
from errand_gateway.transport.internal_tokens import InternalTokens
from errand_gateway.transport.run_events import note_run

_log = structlog.get_logger(__name__)
_RUN_SECONDS: Final = 3600.0
_LOOK_SECONDS: Final = 5.0
_LEASE: Final = timedelta(seconds=60)
_PAUSE: Final = timedelta(seconds=60)
_AT_ONCE: Final = 100
# Longer than anybody may take to decide on a call.
_GIVEN_UP_AFTER: Final = timedelta(days=40)
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
    """A run that this gateway follows closely, and what it holds meanwhile."""

    run: FollowedRun
    reservation: Permit | None
    noted: bool


class BackgroundRuns:
    """Follows runs until they end and books what they used.

    For an hour it is this gateway that began them; then, or when it has ended or died, any one looks now and then.
    """

    def __init__(
        self,
        agents: AgentBackend,
        workflows: WorkflowBackend,
        tokens: InternalTokens,
        recorder: Recorder,
        store: FollowedStore,
        keeper: QuotaKeeper,
        *,
        owner: str,
    ) -> None:
        self._agents = agents
        self._workflows = workflows
        self._tokens = tokens
        self._recorder = recorder
        self._store = store
        self._keeper = keeper
        self._owner = owner
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def follow(self, run: Run, context: RequestContext, *, start_at: datetime | None = None) -> None:
        """Takes over the request's reservation; the request itself is booked with nothing used."""
        await self._watch(FollowedKind.AGENT, run.id, context, start_at or utc_now())

    async def follow_workflow(self, run: WorkflowRun, context: RequestContext) -> None:
        """The same for a workflow's run: what all its agents used is booked as one."""
        await self._watch(FollowedKind.WORKFLOW, run.id, context, utc_now())

    async def _watch(self, kind: FollowedKind, run_id: str, context: RequestContext, start_at: datetime) -> None:
        """Its caller is answered when it is noted: what it uses is booked whatever becomes of this gateway."""
        if context.principal is None or run_id in self._tasks:
            return
        run = FollowedRun(run_id, kind, context.principal, context.project, context.price, start_at + _GIVEN_UP_AFTER)
        noted = await self._noted(run)
        watched = _Watched(run, context.reservation, noted)
        context.reservation = None
        task = asyncio.create_task(self._follow(watched, max(0.0, (start_at - utc_now()).total_seconds())))
        self._tasks[run_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(run_id, None))

    async def note_or_follow(self, run: Run, context: RequestContext) -> None:
        """Books a run that has ended, and follows one that waits for a person."""
        if run.state is RunState.ENDED:
            note_run(run, context)
            return
        context.run_id, context.agent = run.id, run.agent
        await self.follow(run, context)

    async def run(self) -> None:
        """Keeps what this gateway follows, and looks at what nobody does, for ever."""
        while True:
            try:
                await self._store.hold(list(self._tasks), self._owner, until=utc_now() + _LEASE)
                for run in await self._store.claim(self._owner, now=utc_now(), lease=_LEASE, limit=_AT_ONCE):
                    await self._look_at(run)
            except Exception as error:
                _log.warning("background_runs_not_followed", error=type(error).__name__)
            await asyncio.sleep(_LOOK_SECONDS)

    async def close(self) -> None:
        """Hands over what it follows; what running work holds goes back when this gateway's lease does."""
        tasks = dict(self._tasks)
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        for run_id in tasks:
            await self._release(run_id, utc_now())

    async def _follow(self, watched: _Watched, wait_seconds: float) -> None:
        run = watched.run
        try:
            while not watched.noted and not await self._noted(run):  # noqa: ASYNC110 - the database may be away
                await asyncio.sleep(_LOOK_SECONDS)
            if wait_seconds > _RUN_SECONDS:
                await self._store.release(run.id, self._owner, due_at=utc_now() + timedelta(seconds=wait_seconds))
                return
            await asyncio.sleep(wait_seconds)
            async with asyncio.timeout(_RUN_SECONDS):
                ended = await self._ended(run)
            if await self._store.drop(run.id, self._owner):
                self._book(run, ended, watched.reservation)
        except Exception as error:
            _log.warning("background_run_not_booked_yet", run_id=run.id, error=type(error).__name__)
            await self._release(run.id, utc_now() + _PAUSE)
        finally:
            if watched.reservation is not None:
                watched.reservation.settle(Spend())

    async def _noted(self, run: FollowedRun) -> bool:
        try:
            await self._store.add(run, self._owner, held_until=utc_now() + _LEASE)
        except Unavailable as error:
            _log.warning("background_run_not_noted", run_id=run.id, error=type(error).__name__)
            return False
        return True

    async def _release(self, run_id: str, due_at: datetime) -> None:
        try:
            await self._store.release(run_id, self._owner, due_at=due_at)
        except Exception as error:
            _log.warning("background_run_not_released", run_id=run_id, error=type(error).__name__)

    async def _ended(self, run: FollowedRun) -> _Ended:
        for attempt in range(int(_RUN_SECONDS)):
            await asyncio.sleep(_POLL_SECONDS[min(attempt, len(_POLL_SECONDS) - 1)])
            ended = await self._look(run)
            if ended is not None:
                return ended
        raise TimeoutError

    async def _look(self, run: FollowedRun) -> _Ended | None:
        """None while it goes on."""
        # Asked anew for each look: one token for the whole run would expire on the way.
        with self._tokens.acting_as(run.principal):
            if run.kind is FollowedKind.AGENT:
                return _ended_run(await self._agents.get_run(run.id))
            return _ended_workflow(await self._workflows.get_workflow_run(run.id))

    async def _look_at(self, run: FollowedRun) -> None:
        """A run that nobody follows closely any more: what it held has gone back."""
        try:
            ended = await self._look(run)
            if ended is None and utc_now() < run.until:
                await self._store.release(run.id, self._owner, due_at=utc_now() + _PAUSE)
                return
            reservation = await self._reserved(run) if ended is not None else None
            if await self._store.drop(run.id, self._owner) and ended is not None:
                self._book(run, ended, reservation)
        except NotFound:
            await self._store.drop(run.id, self._owner)
            _log.warning("background_run_gone", run_id=run.id)
        except ErrandError as error:
            _log.warning("background_run_not_booked_yet", run_id=run.id, error=type(error).__name__)
            await self._release(run.id, utc_now() + _PAUSE)

    async def _reserved(self, run: FollowedRun) -> Reservation | None:
        """Nothing, to be settled with what was used; None where even that cannot be had: the row is booked still."""
        try:
            return await self._keeper.reserve(run.principal, Spend())
        except QuotaExceeded:
            return None

    def _book(self, run: FollowedRun, ended: _Ended, reservation: Permit | Reservation | None) -> None:
        cost = run.price.micros(ended.usage)
        if reservation is not None:
            tokens = ended.usage.prompt_tokens + ended.usage.completion_tokens
            reservation.settle(Spend(tokens, cost))
        self._recorder.record(_audit(run, ended), replace(_usage(run, ended), cost_micros=cost))


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


def _audit(followed: FollowedRun, run: _Ended) -> AuditEvent:
    principal = followed.principal
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


def _usage(followed: FollowedRun, run: _Ended) -> UsageRecord:
    moments = (run.created_at, run.ended_at)
    seconds = (moments[1] - moments[0]).total_seconds() if moments[0] and moments[1] else 0.0
    return UsageRecord(
        id=new_id("use"),
        tenant_id=followed.principal.tenant_id,
        key_id=followed.principal.id,
        request_id=followed.principal.request_id,
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
        project=followed.project,
    )
