"""Executes runs as DBOS workflows: started at once, resumed after a crash.

DBOS is launched from the service's own event loop and so runs and resumes workflows there: channels
and the database pool belong to that loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetEnqueueOptions, SetWorkflowID
from dbos._error import DBOSWorkflowConflictIDError
from errand_common.db import Database, utc_now
from errand_common.errors import ErrandError, Unavailable
from errand_common.principal import Principal
from errand_common.rpc.client import acting_as, ending_within
from errand_common.telemetry import entered_trace, genai
from errand_common.telemetry.tracing import received_trace
from errand_common.tokens import TokenSigner
from opentelemetry.trace import get_current_span
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession

from errand_agent.admission import admit_next
from errand_agent.domain.approvals import ApprovalState
from errand_agent.domain.callees import Callees, CalleeToolbox
from errand_agent.domain.context import MOST_READ_TURNS
from errand_agent.domain.conversations import Message, Role
from errand_agent.domain.loop import LoopOptions, ReActLoop, Task
from errand_agent.domain.memory import with_facts
from errand_agent.domain.ports import Model, ModelTurn, Retriever, Toolbox, Turn, UnreadableStep, UserTurn
from errand_agent.domain.runs import EventKind, Outcome, Priority, RunState, StopReason
from errand_agent.domain.webhooks import WebhookEvent
from errand_agent.journal import Bell, DbosJournal, rung, until_there
from errand_agent.storage.approvals import ApprovalRepository
from errand_agent.storage.conversations import ConversationRepository
from errand_agent.storage.models import ConversationRow, RunRow
from errand_agent.storage.runs import Keyed, RunRepository, agent_of, principal_of, to_run
from errand_agent.storage.webhooks import WebhookRepository
from errand_agent.telemetry import STORED, WORKFLOWS, RunSpan, TracingObserver, count_run

# Whoever executes a run that a replica left behind must be of the same version for DBOS, so there is one for ever:
# with another one, upgrades and rollbacks would leave runs that nobody executes. Steps tell versions apart (ADR 36).
APPLICATION_VERSION = "agent-3"
# Model and tools get a little longer than the run, so that the run's own limit decides.
_GRACE_SECONDS = 30
_COMMIT_SECONDS = 15.0
_COMMIT_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.02, 1.0
_THINK, _ACT = ".think", ".act"
_QUEUE = "runs"
_QUEUE_SECONDS = 0.5
_PRIORITIES = {Priority.HIGH: 1, Priority.NORMAL: 10, Priority.LOW: 100}
_FORGET_AT_ONCE = 100
_OPEN = ("PENDING", "ENQUEUED", "DELAYED")
_COUNT_SECONDS = 5.0
# Counting is done by listing; beyond this the figure only says "many".
_MOST_COUNTED = 1000
_INTERNAL = "An internal error ended this run."
_INCOMPATIBLE = (
    "Another version of the service began this run, and this one cannot go on from its steps; ask again, or try it "
    "again once that version is back."
)
# Whether this execution is the one that `submit` began: nothing of its run can have been done before.
_is_handed_over: ContextVar[bool] = ContextVar("is_handed_over", default=False)
_log = structlog.get_logger(__name__)


# Facts for a message, an agent and a conversation; raises ErrandError.
Recall = Callable[[str, str, str], Awaitable[list[str]]]


@dataclass(frozen=True, slots=True)
class _Begun:
    """A run that is executed from now on; one that `is_new` never was before."""

    principal: Principal
    task: Task
    is_new: bool
    cancelled: bool
    forked_from: str


class RunExecutor:
    """Starts, resumes and ends runs of this process."""

    def __init__(
        self,
        database: Database,
        bell: Bell,
        signer: TokenSigner,
        model: Model,
        toolbox: Toolbox,
        retriever: Retriever,
        options: LoopOptions,
        *,
        approval_seconds: float,
        recall: Recall,
        queued_at_once: int = 16,
    ) -> None:
        self._queued_at_once = queued_at_once
        self._recall = recall
        self._database, self._bell, self._signer = database, bell, signer
        self._model, self._toolbox, self._retriever, self._options = model, toolbox, retriever, options
        self._approval_seconds = approval_seconds
        self._workflow: Any = None
        self._others: dict[str, Any] = {}
        self._callees: Callees | None = None
        self._held: Callable[[], Awaitable[None]] = _nothing

    def call_agents_by(self, callees: Callees) -> None:
        """Before the start: how runs call agents. These are runs themselves, so they cannot be made first."""
        self._callees = callees

    def add_workflow(self, name: str, run: Callable[[str, str], Awaitable[str]]) -> None:
        """Before the start: another durable function, called with tenant and id."""

        async def workflow(tenant_id: str, id: str) -> str:
            return await run(tenant_id, id)

        self._others[name] = workflow

    async def begin(self, name: str, tenant_id: str, id: str) -> None:
        """Starts such a function, once for each id; it is not bound to its caller's deadline or token."""

        async def start() -> None:
            with SetWorkflowID(id):
                await DBOS.start_workflow_async(self._others[name], tenant_id, id)

        await asyncio.create_task(start(), context=contextvars.Context())

    async def start(
        self, dbos_url: str, executor_id: str, *, held: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Launches DBOS; runs that a crash interrupted go on.

        `held` is waited for before each step: it returns while this replica's runs are its own.
        """
        self._held = held or _nothing
        config: DBOSConfig = {
            "name": "errand-agent",
            "system_database_url": dbos_url,
            "application_version": APPLICATION_VERSION,
            "executor_id": executor_id,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "WARNING",
            "run_migrations": True,
            "use_listen_notify": False,
            # A question before each transaction would be a third of its round trips; DBOS does again what a lost
            # connection broke off.
            "db_engine_kwargs": {"pool_pre_ping": False},
        }
        if dbos_url.startswith("sqlite"):
            _prepare_sqlite(dbos_url)
            # SQLite has one writer; more threads would only poll for its lock, and some starve.
            config["max_executor_threads"] = 1
        DBOS(config=config)

        @DBOS.workflow(name="agent_run")
        async def agent_run(tenant_id: str, run_id: str, trace: dict[str, str]) -> str:
            # A fork has the arguments of the run it comes from, and an id of its own.
            with entered_trace(trace):
                return await self._run(tenant_id, DBOS.workflow_id or run_id)

        self._workflow = agent_run
        for name, workflow in self._others.items():
            self._others[name] = DBOS.workflow(name=name)(workflow)
        DBOS.launch()
        await DBOS.register_queue_async(
            _QUEUE, worker_concurrency=self._queued_at_once, polling_interval_sec=_QUEUE_SECONDS
        )

    async def close(self, grace_seconds: float) -> None:
        """Gives running runs some time; what is left is resumed by the next start."""
        await asyncio.to_thread(DBOS.destroy, workflow_completion_timeout_sec=int(grace_seconds))

    async def count_workflows(self) -> None:
        """Tells again and again how many workflows of all replicas have not ended."""
        while True:
            try:
                found = await DBOS.list_workflows_async(
                    status=list(_OPEN), limit=_MOST_COUNTED, load_input=False, load_output=False
                )
            except Exception as error:
                _log.warning("workflows were not counted", error=type(error).__name__)
            else:
                for status in _OPEN:
                    WORKFLOWS.labels(status.lower()).set(sum(workflow.status == status for workflow in found))
            await asyncio.sleep(_COUNT_SECONDS)

    async def submit(self, tenant_id: str, run_id: str, *, priority: Priority, trace: dict[str, str]) -> None:
        """Starts a run, or puts it into the queue. It is not bound to its caller's deadline or token."""

        async def begin() -> None:
            _is_handed_over.set(priority is Priority.AT_ONCE)
            with SetWorkflowID(run_id):
                if priority is Priority.AT_ONCE:
                    await DBOS.start_workflow_async(self._workflow, tenant_id, run_id, trace)
                    return
                with SetEnqueueOptions(priority=_PRIORITIES[priority]):
                    await DBOS.enqueue_workflow_async(_QUEUE, self._workflow, tenant_id, run_id, trace)

        await asyncio.create_task(begin(), context=contextvars.Context())

    async def trace_of(self, run_id: str) -> str:
        """Id of the run's trace, 32 hex digits; "" for a run that is not known, or of whose trace nothing is told."""
        for workflow in await DBOS.list_workflows_async(workflow_ids=[run_id], load_output=False):
            trace: dict[str, str] = workflow.input["args"][2] if workflow.input else {}
            context = get_current_span(received_trace(trace)).get_span_context()
            return f"{context.trace_id:032x}" if context.trace_flags.sampled else ""
        return ""

    async def model_steps(self, run_id: str) -> list[int]:
        """Numbers of the model steps a run made, in order."""
        return [int(name.removesuffix(_THINK)) for name in await self._step_ids(run_id) if name.endswith(_THINK)]

    async def _step_ids(self, run_id: str) -> dict[str, int]:
        steps = await DBOS.list_workflow_steps_async(run_id, load_output=False)
        return {step["function_name"]: step["function_id"] for step in steps}

    async def has_acted(self, run_id: str, step: int) -> bool:
        """Whether what this model step called is remembered."""
        return f"{step}{_ACT}" in await self._step_ids(run_id)

    async def fork(self, run_id: str, forked_id: str, from_step: int | None) -> None:
        """Starts a run with the results of another one's steps before this model step, or (None) of all of them."""
        steps = await self._step_ids(run_id)
        first_anew = max(steps.values()) + 1 if from_step is None else steps[f"{from_step}{_THINK}"]

        async def begin() -> None:
            with SetWorkflowID(forked_id):
                await DBOS.fork_workflow_async(run_id, first_anew)

        await asyncio.create_task(begin(), context=contextvars.Context())

    async def forget(self, run_ids: Sequence[str]) -> None:
        """Deletes what is remembered of the steps of runs that have ended: prompts, answers, results."""
        for start in range(0, len(run_ids), _FORGET_AT_ONCE):
            await DBOS.delete_workflows_async(list(run_ids[start : start + _FORGET_AT_ONCE]))

    async def _run(self, tenant_id: str, run_id: str) -> str:
        """The workflow. It is replayed after a crash, so all it does goes through the journal."""
        with self._bell.executing(run_id):
            return await self._executed(tenant_id, run_id)

    async def _executed(self, tenant_id: str, run_id: str) -> str:
        loaded = await until_there(partial(self._committed, tenant_id, run_id))
        if loaded is None:
            return "gone"
        principal, task = loaded.principal, loaded.task
        journal = DbosJournal(
            self._database,
            self._bell,
            tenant_id,
            run_id,
            scope=lambda: self._acting(principal, task),
            approval_seconds=self._approval_seconds,
            held=self._held,
            is_new=loaded.is_new,
            cancelled=loaded.cancelled,
        )
        with self._scope(principal, task, tenant_id, loaded.forked_from) as span:
            task = await self._remembering(principal, task)
            outcome, untold = await self._settled(journal, await self._outcome(task, journal, span))
            ending = partial(self._end, tenant_id, run_id, outcome, task.history_ids, journal.steps, untold)
            await until_there(ending)
            span.describe(outcome, self._options.prices)
        return outcome.stop_reason.value

    @contextmanager
    def _acting(self, principal: Principal, task: Task) -> Iterator[None]:
        """Who a step works for, and until when; one after a person's long thought gets a run's whole time."""
        left = task.deadline - time.time()
        seconds = (left if left > 0 else task.agent.limits.max_seconds) + _GRACE_SECONDS
        with acting_as(principal, signer=self._signer, ttl_seconds=seconds), ending_within(seconds):
            yield

    @contextmanager
    def _scope(self, principal: Principal, task: Task, tenant_id: str, forked_from: str) -> Iterator[RunSpan]:
        """Whose run it is, and the span that tells its story."""
        attributes = {
            genai.OPERATION: genai.INVOKE_AGENT,
            genai.MLFLOW_SPAN_TYPE: genai.as_attribute("AGENT"),
            genai.AGENT_NAME: task.agent.name,
            genai.USER_ID: principal.id,
            genai.MLFLOW_INPUTS: genai.as_attribute({"message": task.message}),
            "errand.run_id": task.run_id,
            "errand.tenant_id": tenant_id,
            "errand.request_id": principal.request_id,
            genai.SESSION_ID: task.conversation_id,
            "errand.prompt": task.prompt,
        }
        with (
            structlog.contextvars.bound_contextvars(
                run_id=task.run_id, tenant_id=tenant_id, request_id=principal.request_id
            ),
            RunSpan(task.run_id, f"invoke_agent {task.agent.name}", attributes, forked_from=forked_from) as span,
        ):
            yield span

    async def _remembering(self, principal: Principal, task: Task) -> Task:
        """The task with what its person's agents know; a courtesy, so without where that is away.

        It is looked up again after a crash: steps that are remembered do not ask for it.
        """
        try:
            with self._acting(principal, task):
                facts = await self._recall(task.message, task.agent.name, task.conversation_id)
        except ErrandError as error:
            _log.warning("facts were not recalled", reason=error.reason.value)
            return task
        instructions = with_facts(task.agent.instructions, facts)
        return replace(task, agent=replace(task.agent, instructions=instructions))

    async def _outcome(self, task: Task, journal: DbosJournal, span: RunSpan) -> Outcome:
        observer = TracingObserver(task.agent.name, span)
        toolbox = self._toolbox
        if self._callees is not None and task.agent.agents:
            toolbox = CalleeToolbox(toolbox, self._callees, task.agent.agents)
        loop = ReActLoop(task, self._model, toolbox, self._retriever, journal, observer, self._options)
        try:
            return await loop.run()
        except ErrandError as error:
            _log.warning("run failed", reason=error.reason.value, message=error.message)
            reason = StopReason.UNAVAILABLE if isinstance(error, Unavailable) else StopReason.REFUSED
            return loop.broken_off(reason, error.message)
        except UnreadableStep as error:
            _log.warning("the run's steps are another version's", step=str(error), cause=repr(error.__cause__))
            return loop.broken_off(StopReason.INCOMPATIBLE, _INCOMPATIBLE)
        except DBOSWorkflowConflictIDError:
            # Another replica has taken the run over: it ends there.
            raise
        except Exception:
            _log.exception("run failed")
            return loop.broken_off(StopReason.INTERNAL, _INTERNAL)

    async def _settled(self, journal: DbosJournal, outcome: Outcome) -> tuple[Outcome, Sequence[Keyed]]:
        """How the run ends, and what is to be told of it; one whose steps are not remembered ends too."""
        try:
            return outcome, await journal.settled()
        except DBOSWorkflowConflictIDError:
            raise
        except Exception:
            _log.exception("a step was not remembered")
            return Outcome(StopReason.INTERNAL, _INTERNAL, usage=outcome.usage), ()

    async def _committed(self, tenant_id: str, run_id: str) -> _Begun | None:
        """The run once its row is committed, which happens after its workflow is started, or never."""
        until = time.monotonic() + _COMMIT_SECONDS
        watcher = self._bell.watch(run_id, reads_along=False)
        is_first, pause = _is_handed_over.get(), _COMMIT_POLL_SECONDS
        try:
            if is_first:
                await rung(watcher, _COMMIT_POLL_SECONDS)
            while time.monotonic() < until:
                async with self._database.transaction(tenant_id, read_only=is_first) as session:
                    row = await session.get(RunRow, run_id)
                    if row is not None and not row.waiting and (row.started_at is not None or not is_first):
                        return await _begun(session, row, is_first=is_first)
                if row is not None:
                    is_first = is_first and row.waiting
                    # Whoever admitted it died before saying so, and does it again.
                    until = time.monotonic() + _COMMIT_SECONDS
                await rung(watcher, pause)
                pause = min(2 * pause, _LONGEST_POLL_SECONDS)
                watcher.clear()
            return None
        finally:
            self._bell.unwatch(run_id, watcher)

    async def _end(
        self,
        tenant_id: str,
        run_id: str,
        outcome: Outcome,
        history_ids: Sequence[str],
        steps: int,
        untold: Sequence[Keyed],
    ) -> None:
        """Run, answer and conversation in one transaction; done again it changes nothing."""
        async with self._database.transaction(tenant_id) as session:
            runs, conversations = RunRepository(session), ConversationRepository(session)
            row = await session.get(RunRow, run_id, with_for_update=True)
            if row is None or row.state == RunState.ENDED.value:
                return
            conversation = await conversations.row(tenant_id, row.conversation_id, None)
            if conversation is not None:
                conversations.release(conversation, run_id)
                if outcome.brief is not None:
                    conversation.brief = outcome.brief.text
                    conversation.brief_until = history_ids[outcome.brief.turns - 1]
                if outcome.answer:
                    await conversations.say(conversation, Role.ASSISTANT, outcome.answer, run_id)
                STORED.inc(bool(outcome.answer) + (outcome.brief is not None))
            others_wait, asks, is_told = await runs.concerned(row)
            if others_wait and conversation is not None:
                await admit_next(session, conversation, self.submit)
            approvals = ApprovalRepository(session)
            for approval in await approvals.pending(run_id) if asks else ():
                approvals.decide(approval, ApprovalState.CANCELLED, utc_now())
            runs.end(row, outcome, utc_now())
            await runs.append_all(row, *untold, ("ended", [(EventKind.ENDED, {})]))
            if is_told:
                told = {"run_id": run_id, "conversation_id": row.conversation_id, "agent": row.agent}
                await WebhookRepository(session, tenant_id).tell(
                    WebhookEvent.RUN_ENDED, run_id, {**told, "stop_reason": outcome.stop_reason.value}
                )
            count_run(outcome, steps)
        self._bell.ring(run_id, rests=True)
        self._bell.forget(run_id)


async def _begun(session: AsyncSession, row: RunRow, *, is_first: bool) -> _Begun | None:
    """None when it has ended. A run that `is_first` executed here was begun by whoever stored it."""
    if row.state == RunState.ENDED.value:
        return None
    is_new = is_first or (row.started_at is None and not row.forked_from)
    row.state = RunState.RUNNING.value
    row.started_at = row.started_at or utc_now()
    agent = agent_of(row)
    conversation = await session.get_one(ConversationRow, row.conversation_id)
    messages: list[Message] = []
    # Its own is the first one of a new conversation.
    if conversation.message_count > 1:
        messages = await ConversationRepository(session).latest(
            row.conversation_id, MOST_READ_TURNS, except_run=row.id, after=conversation.brief_until
        )
    task = Task(
        row.id,
        agent,
        row.message,
        tuple(_turn(message.role, message.text) for message in messages),
        row.started_at.timestamp() + agent.limits.max_seconds,
        row.conversation_id,
        conversation.brief,
        tuple(message.id for message in messages),
        to_run(row).prompt,
    )
    return _Begun(principal_of(row), task, is_new, row.cancel_requested, row.forked_from or "")


async def _nothing() -> None:
    """One process has nobody to fear."""


def _prepare_sqlite(url: str) -> None:
    """Write-ahead logging, which the file remembers: one disk flush a commit, and readers never wait."""
    path = make_url(url).database or ""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def _turn(role: Role, text: str) -> Turn:
    return UserTurn(text) if role is Role.USER else ModelTurn(text)
