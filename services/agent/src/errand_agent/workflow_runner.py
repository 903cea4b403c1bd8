"""Runs of workflows, durably: DBOS starts one again after a crash, and its agents' runs are found by their keys."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import structlog
from errand_common.db import Database
from errand_common.principal import Principal, acting_as

from errand_agent.domain.runs import Budget, Run
from errand_agent.domain.workflow_engine import Ending, WorkflowEngine
from errand_agent.domain.workflows import NodeResult, WorkflowState
from errand_agent.journal import until_there
from errand_agent.storage.models import WorkflowRunRow
from errand_agent.storage.workflows import WorkflowRepository, to_workflow_run
from errand_agent.use_cases.runs import RunUseCases

NAME = "workflow_run"
_COMMIT_SECONDS = 15.0
_COMMIT_POLL_SECONDS = 0.02
_log = structlog.get_logger(__name__)


class WorkflowRunner:
    """Executes runs of workflows in this process."""

    def __init__(self, database: Database, runs: RunUseCases) -> None:
        self._database, self._runs = database, runs

    async def run(self, tenant_id: str, run_id: str) -> str:
        """The run, from its beginning or from where a crash left it."""
        row = await until_there(partial(self._committed, tenant_id, run_id))
        if row is None or row.state != WorkflowState.RUNNING.value:
            return "gone"
        principal = Principal(tenant_id, row.principal_id, frozenset(row.roles), frozenset(row.scopes), row.request_id)
        with acting_as(principal), structlog.contextvars.bound_contextvars(workflow_run_id=run_id, tenant_id=tenant_id):
            ending = await self._ending(tenant_id, row)
            if ending.state is not WorkflowState.COMPLETED:
                await self._runs.cancel_by_key(f"{run_id}:")
            return await until_there(partial(self._end, tenant_id, run_id, ending))

    async def _committed(self, tenant_id: str, run_id: str) -> WorkflowRunRow | None:
        """The run once its row is committed, which happens after it is handed over, or never."""
        until = time.monotonic() + _COMMIT_SECONDS
        while True:
            async with self._database.transaction(tenant_id, read_only=True) as session:
                row: WorkflowRunRow | None = await session.get(WorkflowRunRow, run_id)
            if row is not None or time.monotonic() > until:
                return row
            await asyncio.sleep(_COMMIT_POLL_SECONDS)

    async def _ending(self, tenant_id: str, row: WorkflowRunRow) -> Ending:
        run = to_workflow_run(row)

        async def note(result: NodeResult) -> None:
            async with self._database.transaction(tenant_id) as session:
                workflows = WorkflowRepository(session)
                stored = await workflows.run(tenant_id, run.id)
                if stored is not None:
                    workflows.note(stored, result)

        left = run.created_at.timestamp() + run.workflow.max_seconds - time.time()
        agents = _ChildRuns(self._runs, run.id)
        try:
            return await WorkflowEngine(run.workflow, run.input, agents, note, left).run()
        except Exception:
            _log.exception("workflow failed")
            return Ending(WorkflowState.FAILED, error="An internal error ended this run.")

    async def _end(self, tenant_id: str, run_id: str, ending: Ending) -> str:
        async with self._database.transaction(tenant_id) as session:
            workflows = WorkflowRepository(session)
            row = await workflows.run(tenant_id, run_id)
            if row is None:
                return "gone"
            if row.cancel_requested and ending.state is not WorkflowState.COMPLETED:
                ending = Ending(WorkflowState.CANCELLED, error="Someone cancelled it.", usage=ending.usage)
            workflows.end(row, ending)
        return ending.state.value


class _ChildRuns:
    """Agents' runs that belong to a workflow's run; their conversations stay out of people's lists."""

    def __init__(self, runs: RunUseCases, workflow_run_id: str) -> None:
        self._runs, self._workflow_run_id = runs, workflow_run_id

    async def answer(self, agent: str, message: str, *, key: str, max_tokens: int) -> Run:
        """The ended run."""
        run_id = await self._runs.start(
            agent=agent,
            conversation_id="",
            message=message,
            idempotency_key=f"{self._workflow_run_id}:{key}",
            budget=Budget(max_tokens),
            archived=True,
        )
        return await self._runs.ended(run_id)

    async def paused_seconds(self) -> float:
        """How long people have thought, or think, about what these runs ask."""
        return await self._runs.paused_by_key(f"{self._workflow_run_id}:")
