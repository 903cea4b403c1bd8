"""Defining and running workflows."""

from __future__ import annotations

from dataclasses import replace

from errand_common.db import Database
from errand_common.errors import Conflict, InvalidArgument, NotFound
from errand_common.principal import current_principal
from sqlalchemy.ext.asyncio import AsyncSession

from errand_agent.domain.approvals import Approval
from errand_agent.domain.workflows import Workflow, WorkflowRun, WorkflowState, check
from errand_agent.executor import RunExecutor
from errand_agent.storage.approvals import ApprovalRepository, to_approval
from errand_agent.storage.models import WorkflowRunRow
from errand_agent.storage.runs import RunRepository
from errand_agent.storage.workflows import WorkflowRepository, to_workflow_run
from errand_agent.use_cases.access import page_size, visible_owner
from errand_agent.use_cases.agents import AgentUseCases
from errand_agent.use_cases.runs import RunUseCases
from errand_agent.workflow_runner import NAME

MOST_WORKFLOWS = 200


class WorkflowUseCases:
    """Workflows of the caller's tenant."""

    def __init__(self, database: Database, executor: RunExecutor, agents: AgentUseCases, runs: RunUseCases) -> None:
        self._database, self._executor, self._agents, self._runs = database, executor, agents, runs

    async def put(self, workflow: Workflow, expected_version: int) -> Workflow:
        """Stores a new version; raises InvalidArgument, Conflict. Nothing is half-saved."""
        check(workflow)
        await self._check_agents(workflow)
        tenant_id = current_principal().tenant_id
        async with self._database.transaction(tenant_id) as session:
            workflows = WorkflowRepository(session)
            found, version = await workflows.latest(tenant_id, workflow.name)
            in_force = found.version if found else 0
            if expected_version and expected_version != in_force:
                raise Conflict(
                    f"version: {in_force} is in force, not {expected_version}; read the workflow again.",
                    resource="workflow",
                    id=workflow.name,
                )
            if found is None and len(await workflows.all(tenant_id)) >= MOST_WORKFLOWS:
                raise Conflict(
                    f"There are {MOST_WORKFLOWS} workflows already; delete one.", resource="workflow", id=workflow.name
                )
            return await workflows.put(tenant_id, workflow, version + 1)

    async def _check_agents(self, workflow: Workflow) -> None:
        for name in sorted(workflow.agents):
            try:
                await self._agents.get(name)
            except NotFound as error:
                raise InvalidArgument(
                    f"workflow.nodes: there is no agent {name!r}; define it first.", field="workflow.nodes"
                ) from error

    async def get(self, name: str) -> Workflow:
        """Raises NotFound."""
        tenant_id = current_principal().tenant_id
        async with self._database.transaction(tenant_id, read_only=True) as session:
            found, _ = await WorkflowRepository(session).latest(tenant_id, name)
        if found is None:
            raise NotFound("workflow", name)
        return found

    async def all(self) -> list[Workflow]:
        """By name."""
        tenant_id = current_principal().tenant_id
        async with self._database.transaction(tenant_id, read_only=True) as session:
            return await WorkflowRepository(session).all(tenant_id)

    async def delete(self, name: str) -> None:
        """Raises NotFound; runs that go on are not touched."""
        found = await self.get(name)
        tenant_id = current_principal().tenant_id
        async with self._database.transaction(tenant_id) as session:
            workflows = WorkflowRepository(session)
            _, version = await workflows.latest(tenant_id, name)
            await workflows.put(tenant_id, replace(found), version + 1, deleted=True)

    async def start(self, name: str, given: str) -> WorkflowRun:
        """A run that was started; raises NotFound, InvalidArgument."""
        if not given.strip():
            raise InvalidArgument("input: say something.", field="input")
        workflow = await self.get(name)
        await self._check_agents(workflow)
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id) as session:
            row = await WorkflowRepository(session).begin(principal, workflow, given)
            # Before the commit: a process that dies between the two leaves no run that nobody executes.
            await self._executor.begin(NAME, principal.tenant_id, row.id)
        return to_workflow_run(row)

    async def run(self, run_id: str) -> WorkflowRun:
        """With what its agents wait for. Raises NotFound."""
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id, read_only=True) as session:
            row = await self._visible(WorkflowRepository(session), run_id)
            return replace(to_workflow_run(row), approvals=await _asked(session, row))

    async def _visible(self, workflows: WorkflowRepository, run_id: str) -> WorkflowRunRow:
        principal = current_principal()
        row = await workflows.run(principal.tenant_id, run_id)
        owner = visible_owner(principal)
        if row is None or (owner is not None and row.principal_id != owner):
            raise NotFound("workflow run", run_id)
        return row

    async def page(self, *, workflow: str, size: int, token: str) -> tuple[list[WorkflowRun], str]:
        """Newest first: the caller's, for an admin all."""
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id, read_only=True) as session:
            rows, more = await WorkflowRepository(session).page(
                principal.tenant_id, visible_owner(principal), workflow=workflow, size=page_size(size), token=token
            )
            return [to_workflow_run(row) for row in rows], more

    async def cancel(self, run_id: str) -> WorkflowRun:
        """Asks it to end; one that has ended stays as it is. Raises NotFound."""
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id) as session:
            row = await self._visible(WorkflowRepository(session), run_id)
            going_on = row.state == WorkflowState.RUNNING.value
            row.cancel_requested = row.cancel_requested or going_on
        if going_on:
            await self._runs.cancel_by_key(f"{run_id}:")
        return await self.run(run_id)


async def _asked(session: AsyncSession, row: WorkflowRunRow) -> list[Approval]:
    """Calls of its agents' runs, and of those below them, that wait for a person."""
    runs = RunRepository(session)
    own = await runs.active_by_key(row.tenant_id, f"{row.id}:")
    below = [asking for run_id in own for asking in await runs.asking_below(row.tenant_id, run_id)]
    return [to_approval(found) for found in await ApprovalRepository(session).pending(*own, *below)]
