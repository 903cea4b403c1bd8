"""Starting, watching and cancelling runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence, Set
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import cycle

from errand_common.db import Database, new_id, utc_now
from errand_common.errors import Conflict, InvalidArgument, NotFound
from errand_common.principal import current_principal
from errand_common.telemetry import carried_trace
from sqlalchemy.ext.asyncio import AsyncSession

from errand_agent.admission import KIND as RUN_TIMER
from errand_agent.admission import handed_over
from errand_agent.domain.agents import Agent
from errand_agent.domain.approvals import Approval
from errand_agent.domain.callees import MOST_DEEP
from errand_agent.domain.conversations import Role, title_of
from errand_agent.domain.flags import Flag
from errand_agent.domain.runs import (
    Budget,
    EventKind,
    Opinion,
    Outcome,
    Priority,
    Run,
    RunEvent,
    RunState,
    StepKind,
    StopReason,
)
from errand_agent.executor import RunExecutor
from errand_agent.journal import Bell, rung
from errand_agent.storage.approvals import ApprovalRepository, to_approval
from errand_agent.storage.conversations import ConversationRepository
from errand_agent.storage.models import ConversationRow, RunRow
from errand_agent.storage.runs import RunRepository, to_run
from errand_agent.storage.timers import Timer, TimerRepository
from errand_agent.telemetry import count_fallback
from errand_agent.use_cases.access import page_size, visible_owner
from errand_agent.use_cases.agents import in_force
from errand_agent.use_cases.prompts import prompted

MOST_WAITING = 8
_FURTHEST = timedelta(days=366)


class RunUseCases:
    """Runs of the caller's tenant."""

    def __init__(
        self,
        database: Database,
        bell: Bell,
        executor: RunExecutor,
        tell: Callable[[Opinion], None] = lambda _: None,
        is_on: Callable[[Flag, str], bool] = lambda *_: True,
    ) -> None:
        """`tell` is told of each opinion that was stored; `is_on` says whether a tenant has what a flag switches."""
        self._is_on = is_on
        self._database, self._bell, self._executor = database, bell, executor
        self._tell = tell
        self._is_ending = False

    async def start(
        self,
        *,
        agent: str,
        conversation_id: str,
        message: str,
        idempotency_key: str,
        budget: Budget | None = None,
        archived: bool = False,
        parent_run_id: str = "",
        priority: Priority = Priority.AT_ONCE,
        start_at: datetime | None = None,
        queues: bool = False,
    ) -> str:
        """The id of a run that was started, or of the one the key stands for.

        With a `budget` it may use at most so much, whatever its agent says; `archived` keeps a new
        conversation out of listings; `parent_run_id` is the run that called its agent. It does not begin
        before `start_at`, and with `queues` it waits while its conversation is being answered.
        Raises NotFound, InvalidArgument, and Conflict while the conversation is being answered.
        """
        if not message.strip():
            raise InvalidArgument("message: say something.", field="message")
        start_at = _to_come(start_at)
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id) as session:
            runs = RunRepository(session)
            if idempotency_key and (known := await runs.by_key(principal, idempotency_key)) is not None:
                return await self._known(known, message)
            await _check_depth(runs, parent_run_id)
            conversation = await self._conversation(session, conversation_id)
            named = await self._named(session, agent, conversation, budget)
            if conversation is None:
                conversations = ConversationRepository(session)
                title = title_of(message)
                conversation = await conversations.add(principal.tenant_id, principal.id, title=title, agent=named.name)
            conversation.title = conversation.title or title_of(message)
            conversation.archived = archived
            named, prompt = await prompted(session, named, conversation.id)
            waits = await self._waits(runs, conversation, start_at, queues=queues)
            run = Run(
                id=new_id("run"),
                tenant_id=principal.tenant_id,
                principal_id=principal.id,
                conversation_id=conversation.id,
                agent=named.name,
                message=message,
                # It begins with the commit: a transaction less before its first step.
                state=RunState.QUEUED if waits or priority is not Priority.AT_ONCE else RunState.RUNNING,
                created_at=utc_now(),
                parent_run_id=parent_run_id,
                prompt=prompt,
                priority=priority,
                waiting=waits,
                start_at=start_at,
            )
            if waits:
                await _put(session, run, named, idempotency_key)
            else:
                submit = self._executor.submit
                async with handed_over(run.id, conversation, priority, carried_trace(), submit):
                    await ConversationRepository(session).say(conversation, Role.USER, message, run.id)
                    await _put(session, run, named, idempotency_key)
        # Whoever executes it waits for the commit.
        self._bell.ring(run.id, rests=True)
        return run.id

    async def _waits(
        self, runs: RunRepository, conversation: ConversationRow, start_at: datetime | None, *, queues: bool
    ) -> bool:
        """Whether it waits for its time or the conversation; raises Conflict when too many do."""
        if start_at is None and not (queues and conversation.active_run_id is not None):
            return False
        if await runs.count_waiting(conversation.id) >= MOST_WAITING:
            raise Conflict(
                f"conversation_id: {MOST_WAITING} messages wait in this conversation; send the next one later.",
                resource="conversation",
                id=conversation.id,
            )
        return True

    async def _known(self, row: RunRow, message: str) -> str:
        """The run a key stands for. One that a crash kept from being handed over is handed over now."""
        known = _same_request(row, message)
        if known.state == RunState.QUEUED.value and not known.waiting:
            await self._executor.submit(known.tenant_id, known.id, priority=Priority(known.priority), trace=known.trace)
        return known.id

    async def paused_by_key(self, prefix: str) -> float:
        """Seconds that people have thought about calls of those runs, and of runs below, whose key begins so."""
        tenant_id = current_principal().tenant_id
        async with self._database.transaction(tenant_id, read_only=True) as session:
            runs = await RunRepository(session).family_by_key(tenant_id, prefix)
            return await ApprovalRepository(session).waited_seconds(runs, utc_now())

    async def cancel_by_key(self, prefix: str) -> None:
        """Asks those of the caller's runs to end whose idempotency key begins so."""
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id, read_only=True) as session:
            going_on = await RunRepository(session).active_by_key(principal.tenant_id, prefix)
        for run_id in going_on:
            await self.cancel(run_id)

    async def _conversation(self, session: AsyncSession, conversation_id: str) -> ConversationRow | None:
        """The caller's conversation, or None for a new one. Raises NotFound."""
        if not conversation_id:
            return None
        principal = current_principal()
        row = await ConversationRepository(session).row(principal.tenant_id, conversation_id, principal.id)
        if row is None:
            raise NotFound("conversation", conversation_id)
        return row

    async def _named(
        self, session: AsyncSession, name: str, conversation: ConversationRow | None, budget: Budget | None
    ) -> Agent:
        """The agent of that name, or the conversation's, within what the run and the tenant may. Raises NotFound."""
        tenant_id = current_principal().tenant_id
        named = await (in_force(session, name) if name or conversation is None else _agent_of(session, conversation))
        if budget is not None:
            named = named.within(budget)
        if not self._is_on(Flag.CALL_AGENTS, tenant_id):
            named = replace(named, agents=())
        if not self._is_on(Flag.PROMPTS, tenant_id):
            named = replace(named, prompt="")
        return named

    async def get(self, run_id: str) -> Run:
        """The run with its steps; raises NotFound."""
        async with self._database.transaction(current_principal().tenant_id, read_only=True) as session:
            return await self._whole(session, await self._visible(RunRepository(session), run_id))

    async def _in_state(self, run_id: str, states: Set[RunState]) -> Run | None:
        """As `get`; None while it is in no such state."""
        async with self._database.transaction(current_principal().tenant_id, read_only=True) as session:
            row = await self._visible(RunRepository(session), run_id)
            return await self._whole(session, row) if row.state in states else None

    async def _whole(self, session: AsyncSession, row: RunRow) -> Run:
        """With its steps, and what it or a run that it called waits for."""
        runs, waiting = RunRepository(session), []
        if row.state == RunState.WAITING.value:
            asking = [row.id, *await runs.asking_below(row.tenant_id, row.id)]
            waiting = [to_approval(found) for found in await ApprovalRepository(session).pending(*asking)]
        return replace(to_run(row, await runs.steps(row.tenant_id, row.id)), approvals=tuple(waiting))

    async def steps_until(self, run_id: str, sequence: int) -> int:
        """Steps that events up to this one told; raises NotFound."""
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id, read_only=True) as session:
            runs = RunRepository(session)
            await self._visible(runs, run_id)
            return await runs.steps_until(principal.tenant_id, run_id, sequence) if sequence else 0

    async def _visible(self, runs: RunRepository, run_id: str, *, locked: bool = False) -> RunRow:
        principal = current_principal()
        row = await runs.row(principal.tenant_id, run_id, locked=locked)
        owner = visible_owner(principal)
        if row is None or (owner is not None and row.principal_id != owner):
            raise NotFound("run", run_id)
        return row

    async def page(
        self,
        *,
        conversation_id: str,
        state: RunState | None,
        agent: str,
        stop_reasons: Sequence[StopReason],
        parent_run_id: str,
        size: int,
        token: str,
    ) -> tuple[list[Run], str]:
        """Runs without their steps, newest first."""
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id, read_only=True) as session:
            rows, more = await RunRepository(session).page(
                principal.tenant_id,
                visible_owner(principal),
                conversation_id=conversation_id,
                state=state,
                agent=agent,
                stop_reasons=stop_reasons,
                parent_run_id=parent_run_id,
                size=page_size(size),
                token=token,
            )
            return [to_run(row) for row in rows], more

    async def watch(self, run_id: str, after: int) -> AsyncGenerator[RunEvent, None]:
        """The run's events after a sequence number, until it ends; raises NotFound."""
        tenant_id = current_principal().tenant_id
        watcher, is_seen = self._bell.watch(run_id), False
        try:
            while True:
                watcher.clear()
                async with self._database.transaction(tenant_id, read_only=True) as session:
                    runs = RunRepository(session)
                    is_seen = is_seen or await self._visible(runs, run_id) is not None
                    events = await runs.events(tenant_id, run_id, after)
                for event in events:
                    yield event
                    after = event.sequence
                if events and events[-1].kind is EventKind.ENDED:
                    return
                if any(event.payload.get("kind") == StepKind.OBSERVE for event in events):
                    # What it told before it ended is late.
                    watcher.take()
                if not events:
                    for progress in watcher.take():
                        yield RunEvent(after, utc_now(), EventKind.TOOL_PROGRESS, progress)
                    await rung(watcher, self._bell.patience(run_id))
        finally:
            self._bell.unwatch(run_id, watcher)

    async def wait(self, run_id: str) -> Run:
        """The run, once it has ended or waits for a person."""
        return await self._rested(run_id, {RunState.ENDED, RunState.WAITING})

    async def ended(self, run_id: str) -> Run:
        """The run, once it has ended; people may take days to approve its calls."""
        return await self._rested(run_id, {RunState.ENDED})

    async def ended_below(self, run_id: str, called_id: str) -> Run:
        """A run that this one called, once it has ended. While it waits for a person this one does, and tells so."""
        for awaited in cycle(({RunState.WAITING, RunState.ENDED}, {RunState.RUNNING, RunState.ENDED})):
            called = await self._rested(called_id, awaited)
            await self._tell_of_asking(run_id, called.approvals)
            if called.state is RunState.ENDED:
                break
        return called

    async def _tell_of_asking(self, run_id: str, asked: Sequence[Approval]) -> None:
        """Tells how called runs' approvals stand, these and those told before; the run waits while one of them does."""
        tenant_id = current_principal().tenant_id
        async with self._database.transaction(tenant_id) as session:
            runs = RunRepository(session)
            row = await session.get(RunRow, run_id, with_for_update=True)
            if row is None or row.state == RunState.ENDED.value:
                return
            told = await runs.told_approvals(tenant_id, run_id)
            for approval in await ApprovalRepository(session).called([*told, *(one.id for one in asked)], run_id):
                state = {"id": approval.id, "state": approval.state}
                await runs.append(row, f"{approval.id}.{approval.state}", [(EventKind.APPROVAL, state)])
            waits = bool(await runs.asking_below(tenant_id, run_id))
            row.state = RunState.WAITING.value if waits else RunState.RUNNING.value
        self._bell.ring(run_id, rests=True)

    async def _rested(self, run_id: str, states: Set[RunState]) -> Run:
        """The run in one of these states; what it does on the way is not read."""
        watcher = self._bell.watch(run_id, reads_along=False)
        try:
            while (run := await self._in_state(run_id, states)) is None:
                await rung(watcher, self._bell.patience(run_id))
                watcher.clear()
            return run
        finally:
            self._bell.unwatch(run_id, watcher)

    async def approval(self, approval_id: str) -> Approval:
        """As it is now; raises NotFound."""
        tenant_id = current_principal().tenant_id
        async with self._database.transaction(tenant_id, read_only=True) as session:
            row = await ApprovalRepository(session).row(tenant_id, approval_id)
            if row is None:
                raise NotFound("approval", approval_id)
            return to_approval(row)

    def end(self) -> None:
        """From now on callers are sent away because this process ends: their runs go on, and they ask elsewhere."""
        self._is_ending = True

    async def abandon(self, run_id: str) -> None:
        """The caller went away: the run is cancelled, unless it waits for a person."""
        if self._is_ending:
            return
        if (await self.get(run_id)).state is not RunState.WAITING:
            await self.cancel(run_id)

    async def cancel(self, run_id: str) -> Run:
        """Asks a run and those it called to end; one that has ended stays as it is. Raises NotFound."""
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id) as session:
            runs = RunRepository(session)
            row = await self._visible(runs, run_id, locked=True)
            called = await runs.called_by(principal.tenant_id, run_id)
            if row.waiting:
                row.waiting = False
                runs.end(row, Outcome(StopReason.CANCELLED, ""), utc_now())
                await runs.append(row, "ended", [(EventKind.ENDED, {})])
                self._bell.ring(run_id, rests=True)
            elif row.state != RunState.ENDED.value:
                row.cancel_requested = True
                self._bell.cancellation(run_id).set()
                self._bell.ring(run_id)
        for called_id in called:
            await self.cancel(called_id)
        return await self.get(run_id)

    async def give_feedback(self, run_id: str, *, helpful: bool, comment: str, correction: str) -> None:
        """Stores feedback on an ended run; raises NotFound, Conflict."""
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id) as session:
            runs = RunRepository(session)
            row = await self._visible(runs, run_id)
            if row.state != RunState.ENDED.value:
                raise Conflict("The run has not ended yet; give feedback on its answer.", resource="run", id=run_id)
            await runs.put_feedback(principal, run_id, helpful, comment, correction)
        self._tell(Opinion(run_id, principal.id, helpful, comment, correction))


async def _put(session: AsyncSession, run: Run, agent: Agent, idempotency_key: str) -> None:
    """Stores it with its first event, and with its time if it is to begin later."""
    runs = RunRepository(session)
    row = await runs.add(run, current_principal(), agent, idempotency_key, carried_trace())
    begun = {"conversation_id": run.conversation_id, "agent": agent.name}
    await runs.append(row, "started", [(EventKind.STARTED, begun)])
    if run.start_at is not None:
        await TimerRepository(session).put(Timer(RUN_TIMER, run.tenant_id, run.id, run.start_at))


def _to_come(start_at: datetime | None) -> datetime | None:
    """None for a moment that has come; raises InvalidArgument for one too far away."""
    if start_at is not None and start_at > utc_now() + _FURTHEST:
        raise InvalidArgument(f"start_at: at most {_FURTHEST.days} days ahead.", field="start_at")
    return start_at if start_at is not None and start_at > utc_now() else None


async def _agent_of(session: AsyncSession, conversation: ConversationRow) -> Agent:
    """The conversation's agent; the default one goes on where that was deleted."""
    try:
        return await in_force(session, conversation.agent)
    except NotFound:
        routed = await in_force(session, "")
        count_fallback(conversation.agent, routed.name)
        return routed


async def _check_depth(runs: RunRepository, parent_run_id: str) -> None:
    tenant_id = current_principal().tenant_id
    if parent_run_id and await runs.depth(tenant_id, parent_run_id, MOST_DEEP) >= MOST_DEEP:
        raise InvalidArgument(f"agents: they call each other at most {MOST_DEEP} deep.", field="agents")


def _same_request(known: RunRow, message: str) -> RunRow:
    if known.message != message:
        raise Conflict(
            "idempotency_key: it stands for another message; use a new key for a new request.",
            resource="run",
            id=known.id,
        )
    return known
