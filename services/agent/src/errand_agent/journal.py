"""The durable journal of a run: DBOS remembers steps, the run's event log tells them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, TypeVar

import structlog
from dbos import DBOS
from dbos._error import DBOSUnexpectedStepError
from errand_common.db import Database, utc_now
from errand_common.errors import ErrandError, Reason, Unavailable, from_reason
from sqlalchemy.ext.asyncio import AsyncSession

from errand_agent.domain.approvals import ApprovalState
from errand_agent.domain.ports import Call, Decision, RunCancelled, UnreadableStep
from errand_agent.domain.runs import EventKind, RunState, Step
from errand_agent.domain.webhooks import WebhookEvent
from errand_agent.step_log import DoneStep, keep
from errand_agent.storage.approvals import ApprovalRepository, to_approval
from errand_agent.storage.models import ApprovalRow, RunRow
from errand_agent.storage.runs import Keyed, RunRepository
from errand_agent.storage.webhooks import WebhookRepository
from errand_agent.telling import Teller

_CANCELLED = {"cancelled": True}
_FAILED = "failed with"
# A decision that another replica took rings no bell here; a run that waits looks this often.
_LOOK_SECONDS = 2.0
_SEEN_SECONDS = 1.0
# A watcher of a run that another replica executes hears no bell. The looks of hundreds who do would take longer than
# the runs that they wait for.
_UNHEARD_SECONDS = 0.5
_HEARD_SECONDS = 10.0
# So long a step that nobody waits for waits for others, to be on the disk in one flush with them.
_COMPANY_SECONDS = 0.005
_AWAY_SECONDS = 1.0
_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class Watcher(asyncio.Event):
    """Set when a run has news; holds what its running tools told last, by their calls, until it is read."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[int, Mapping[str, Any]] = {}

    def hear(self, progress: Mapping[str, Any]) -> None:
        """Takes the place of what the same call told before."""
        self._told[progress["call_index"]] = progress
        self.set()

    def take(self) -> list[Mapping[str, Any]]:
        """What was told since the last time."""
        told, self._told = list(self._told.values()), {}
        return told


class Bell:
    """Wakes those who watch a run, and carries the wish to cancel it and what its tools tell."""

    def __init__(self) -> None:
        self._watchers: dict[str, dict[Watcher, bool]] = {}
        self._cancelled: dict[str, asyncio.Event] = {}
        self._here: set[str] = set()

    @contextmanager
    def executing(self, run_id: str) -> Iterator[None]:
        """Goes around a run that is executed in this process: whoever watches it hears all of it."""
        self._here.add(run_id)
        try:
            yield
        finally:
            self._here.discard(run_id)

    def patience(self, run_id: str) -> float:
        """Seconds that a run's watcher waits for the bell before it looks by itself."""
        return _HEARD_SECONDS if run_id in self._here else _UNHEARD_SECONDS

    def ring(self, run_id: str, *, rests: bool = False) -> None:
        """Wakes the run's watchers; those who do not read along when it ends, waits for a person or goes on after."""
        for watcher, reads_along in self._watchers.get(run_id, {}).items():
            if reads_along or rests:
                watcher.set()

    def tell(self, run_id: str, progress: Mapping[str, Any]) -> None:
        """How far a tool is, for those who read along now: nobody is told later."""
        for watcher, reads_along in self._watchers.get(run_id, {}).items():
            if reads_along:
                watcher.hear(progress)

    def watch(self, run_id: str, *, reads_along: bool = True) -> Watcher:
        """An event that is set when the run has news, for who does not read along when it rests."""
        watcher = Watcher()
        self._watchers.setdefault(run_id, {})[watcher] = reads_along
        return watcher

    def unwatch(self, run_id: str, watcher: Watcher) -> None:
        """Ends a watch."""
        watchers = self._watchers.get(run_id, {})
        watchers.pop(watcher, None)
        if not watchers:
            self._watchers.pop(run_id, None)

    def cancellation(self, run_id: str) -> asyncio.Event:
        """Set when the run shall end."""
        return self._cancelled.setdefault(run_id, asyncio.Event())

    def forget(self, run_id: str) -> None:
        """The run has ended."""
        self._cancelled.pop(run_id, None)


class DbosJournal:
    """One run's journal."""

    def __init__(
        self,
        database: Database,
        bell: Bell,
        tenant_id: str,
        run_id: str,
        *,
        scope: Callable[[], AbstractContextManager[None]],
        approval_seconds: float,
        held: Callable[[], Awaitable[None]],
        is_new: bool,
        cancelled: bool,
    ) -> None:
        """`scope` goes around each step: a run may wait for days, longer than a token lives.

        `held` returns while the run is this replica's. Nothing of a run that `is_new` was told before; `cancelled`
        when it shall end.
        """
        self._is_new = is_new
        self._held = held
        self._database, self._bell = database, bell
        self._tenant_id, self._run_id = tenant_id, run_id
        self._scope, self._approval_seconds = scope, approval_seconds
        self._told_before: dict[str, bool] = {}
        self._done_steps: list[DoneStep] = []
        self._remembering: asyncio.Task[None] | None = None
        self._awaited = asyncio.Event()
        # What was told of, by this attempt and those before.
        self.steps = 0
        self._teller = Teller(database, tenant_id, run_id, ring=bell.ring, cancelled=cancelled)

    async def once(
        self, name: str, work: Callable[[], Awaitable[dict[str, Any]]], *, has_effects: bool = False
    ) -> dict[str, Any]:
        """A DBOS step: done once, remembered, cancelled with the run.

        One that has effects begins when all before it is remembered; all are remembered while the run goes on. An
        error is remembered as data: DBOS would give it back as an exception of another type.
        """
        if has_effects:
            await self.remembered()
        result = await self._step(name, partial(self._done, work))
        if result == _CANCELLED:
            raise RunCancelled
        if _FAILED in result:
            reason, message, metadata = result[_FAILED]
            raise from_reason(Reason(reason), message, metadata)
        return result

    async def _step(self, name: str, step: Callable[[], Coroutine[Any, Any, dict[str, Any]]]) -> dict[str, Any]:
        """Nothing of a new run is remembered yet: its steps need not be looked for, only kept when they are done."""
        place = DBOS.reserve_step()
        if not self._is_new:
            try:
                looked_for: dict[str, Any] = await place.run_async({"name": name}, step)
            except DBOSUnexpectedStepError as error:
                raise UnreadableStep(name) from error
            return looked_for
        result = await step()
        self._done_steps.append((place, name, result))
        if self._remembering is None or (self._remembering.done() and self._remembering.exception() is None):
            self._remembering = asyncio.create_task(self._remember())
        return result

    async def _remember(self) -> None:
        """Those that are done at about the same time together, then the next ones: DBOS locks the run for each time."""
        while self._done_steps:
            await rung(self._awaited, _COMPANY_SECONDS)
            steps, self._done_steps = self._done_steps, []
            await keep(steps)

    async def remembered(self) -> None:
        """Returns when all steps that were done are remembered; raises what kept one from it."""
        if self._remembering is not None:
            self._awaited.set()
            try:
                await self._remembering
            finally:
                self._awaited.clear()

    async def _done(self, work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        await self._held()
        try:
            with self._scope():
                return await self._cancellable(work)
        except ErrandError as error:
            return {_FAILED: [error.reason.value, error.message, dict(error.metadata)]}

    async def _cancellable(self, work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        cancelled = asyncio.ensure_future(self._bell.cancellation(self._run_id).wait())
        working = asyncio.ensure_future(work())
        try:
            await asyncio.wait({working, cancelled}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                return dict(_CANCELLED)
            result = working.result()
            if self._teller.has_pieces:
                # They are in no step: what is remembered would not tell them again.
                await self._teller.told()
            return result
        finally:
            cancelled.cancel()
            if not working.done():
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)

    async def record(self, key: str, steps: Sequence[Step]) -> None:
        """Steps as events, which are stored while the run goes on."""
        self.steps += len(steps)
        self._teller.put(key, [(EventKind.STEP, step.to_json()) for step in steps], self._remembering)

    async def settled(self) -> Sequence[Keyed]:
        """Returns when all steps are remembered, with the events that are not told of yet."""
        await self.remembered()
        return await self._teller.untold()

    async def tell(self, key: str, text: str) -> None:
        """A piece of the answer; an answer that an earlier attempt began is not told again."""
        if key not in self._told_before and not self._is_new:
            async with self._database.transaction(self._tenant_id, read_only=True) as session:
                self._told_before[key] = await RunRepository(session).has_key(self._run_id, f"{key}.delta")
        if text and not self._told_before.get(key):
            self._teller.put_piece(key, text)

    async def decide(self, step: int, calls: Mapping[int, Call]) -> tuple[dict[int, Decision], float]:
        """Asks once, and waits for people; a wait that a crash interrupted is taken up again."""
        await self._teller.told()
        await self._ask(step, calls)
        watcher = self._bell.watch(self._run_id)
        try:
            while (decided := await self._decided(step)) is None:
                if await self.is_cancelled():
                    raise RunCancelled
                await rung(watcher, _LOOK_SECONDS)
                watcher.clear()
        finally:
            self._bell.unwatch(self._run_id, watcher)
        asked_at = min(row.created_at for row in decided.values())
        decided_at = max(row.decided_at or row.created_at for row in decided.values())
        given = {index: Decision(to_approval(row).call, to_approval(row).refusal) for index, row in decided.items()}
        return given, (decided_at - asked_at).total_seconds()

    async def _ask(self, step: int, calls: Mapping[int, Call]) -> None:
        async with self._database.transaction(self._tenant_id) as session:
            run = await session.get(RunRow, self._run_id, with_for_update=True)
            if run is None:
                raise RunCancelled
            approvals = ApprovalRepository(session)
            asked = await approvals.ask(run, step, calls, self._approval_seconds)
            await self._tell_approvals(session, run, f"{step}.asked", asked)
            if await approvals.pending(self._run_id):
                run.state = RunState.WAITING.value
            for approval in asked:
                await WebhookRepository(session, self._tenant_id).tell(
                    WebhookEvent.APPROVAL_REQUESTED, self._run_id, _told(run, approval)
                )
        self._bell.ring(self._run_id, rests=True)

    async def _decided(self, step: int) -> dict[int, ApprovalRow] | None:
        """The step's approvals once none of them waits; those that nobody decided on in time are given up."""
        async with self._database.transaction(self._tenant_id) as session:
            run = await session.get(RunRow, self._run_id, with_for_update=True)
            approvals = ApprovalRepository(session)
            rows = await approvals.of_step(self._run_id, step)
            for row in rows.values():
                if row.state == ApprovalState.PENDING.value and row.expires_at <= utc_now():
                    approvals.decide(row, ApprovalState.EXPIRED, utc_now())
            if run is None or any(row.state == ApprovalState.PENDING.value for row in rows.values()):
                return None
            run.state = RunState.RUNNING.value
            await self._tell_approvals(session, run, f"{step}.decided", list(rows.values()))
        self._bell.ring(self._run_id, rests=True)
        return rows

    async def _tell_approvals(self, session: AsyncSession, run: RunRow, key: str, rows: Sequence[ApprovalRow]) -> None:
        told = [(EventKind.APPROVAL, {"id": row.id, "state": row.state}) for row in rows]
        await RunRepository(session).append(run, key, told)

    async def is_cancelled(self) -> bool:
        """By this process's bell, or by the row when another one was asked: seen at most a second ago."""
        if self._bell.cancellation(self._run_id).is_set():
            return True
        if time.monotonic() - self._teller.seen_at > _SEEN_SECONDS:
            async with self._database.transaction(self._tenant_id, read_only=True) as session:
                row = await session.get(RunRow, self._run_id)
            self._teller.saw(cancelled=row is None or row.cancel_requested)
        return self._teller.seen_cancelled


def _told(run: RunRow, approval: ApprovalRow) -> dict[str, Any]:
    return {
        "approval_id": approval.id,
        "run_id": run.id,
        "agent": run.agent,
        "tool_name": approval.tool_name,
        "arguments_json": approval.arguments_json,
        "expires_at": approval.expires_at.isoformat(),
    }


async def until_there(work: Callable[[], Awaitable[_T]]) -> _T:
    """What the work gives, once the database is there: a run has nobody else who would begin or end it."""
    while True:
        try:
            return await work()
        except Unavailable as error:
            _log.warning("the run waits for the database", message=error.message)
            await asyncio.sleep(_AWAY_SECONDS)


async def rung(watcher: asyncio.Event, seconds: float) -> None:
    """Waits for the bell, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            await watcher.wait()
    except TimeoutError:
        return
