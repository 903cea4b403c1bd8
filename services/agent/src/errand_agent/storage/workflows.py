"""Every query on workflows and their runs."""

from __future__ import annotations

from dataclasses import asdict, replace

import sqlalchemy as sa
from errand_common.db import decode_page_token, encode_page_token, new_id, utc_now
from errand_common.errors import Conflict
from errand_common.principal import Principal
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from errand_agent.domain.runs import Usage
from errand_agent.domain.workflow_engine import Ending
from errand_agent.domain.workflows import NodeResult, NodeState, Workflow, WorkflowRun, WorkflowState
from errand_agent.storage.models import WorkflowRow, WorkflowRunRow


def to_workflow_run(row: WorkflowRunRow) -> WorkflowRun:
    """The domain's run."""
    return WorkflowRun(
        id=row.id,
        workflow=Workflow.from_json(row.definition),
        input=row.input,
        state=WorkflowState(row.state),
        created_at=row.created_at,
        output=row.output,
        error=row.error,
        nodes=[_result(node) for node in row.nodes],
        usage=Usage(**row.usage),
        ended_at=row.ended_at,
    )


def _result(stored: dict[str, object]) -> NodeResult:
    run_ids = stored["run_ids"]
    return NodeResult(
        str(stored["id"]),
        NodeState(str(stored["state"])),
        str(stored["output"]),
        tuple(run_ids) if isinstance(run_ids, list) else (),
    )


class WorkflowRepository:
    """Workflows of one transaction's tenant. Versions are only added."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def latest(self, tenant_id: str, name: str) -> tuple[Workflow | None, int]:
        """The workflow in force, if there is one, and the newest version's number."""
        query = sa.select(WorkflowRow).where(WorkflowRow.tenant_id == tenant_id, WorkflowRow.name == name)
        row = await self._session.scalar(query.order_by(WorkflowRow.version.desc()).limit(1))
        if row is None:
            return None, 0
        return None if row.deleted else Workflow.from_json(row.definition), row.version

    async def put(self, tenant_id: str, workflow: Workflow, version: int, *, deleted: bool = False) -> Workflow:
        """Stores a version; raises Conflict when another writer stored it first."""
        stored = replace(workflow, version=version)
        values = {"tenant_id": tenant_id, "name": workflow.name, "version": version, "deleted": deleted}
        self._session.add(WorkflowRow(definition=stored.to_json(), created_at=utc_now(), **values))
        try:
            await self._session.flush()
        except IntegrityError as error:
            raise Conflict(
                "The workflow was changed at the same time; read it again.", resource="workflow", id=workflow.name
            ) from error
        return stored

    async def all(self, tenant_id: str) -> list[Workflow]:
        """The workflows in force, by name."""
        query = sa.select(WorkflowRow).where(WorkflowRow.tenant_id == tenant_id)
        newest = {row.name: row for row in await self._session.scalars(query.order_by(WorkflowRow.version))}
        return [Workflow.from_json(newest[name].definition) for name in sorted(newest) if not newest[name].deleted]

    async def begin(self, principal: Principal, workflow: Workflow, given: str) -> WorkflowRunRow:
        """A new run."""
        row = WorkflowRunRow(
            id=new_id("wfr"),
            tenant_id=principal.tenant_id,
            principal_id=principal.id,
            roles=sorted(principal.roles),
            scopes=sorted(principal.scopes),
            request_id=principal.request_id,
            workflow=workflow.name,
            definition=workflow.to_json(),
            input=given,
            state=WorkflowState.RUNNING.value,
            output="",
            error="",
            nodes=[],
            usage=asdict(Usage()),
            cancel_requested=False,
            created_at=utc_now(),
        )
        self._session.add(row)
        await self._session.flush()
        return row

    async def run(self, tenant_id: str, run_id: str) -> WorkflowRunRow | None:
        """The run, locked."""
        row = await self._session.get(WorkflowRunRow, run_id, with_for_update=True)
        return row if row is not None and row.tenant_id == tenant_id else None

    def note(self, row: WorkflowRunRow, result: NodeResult) -> None:
        """A node has ended; done again it changes nothing."""
        others = [node for node in row.nodes if node["id"] != result.id]
        row.nodes = [*others, {**asdict(result), "run_ids": list(result.run_ids)}]

    def end(self, row: WorkflowRunRow, ending: Ending) -> None:
        """Stores how it ended."""
        row.state, row.output, row.error = ending.state.value, ending.output, ending.error
        row.usage, row.ended_at = asdict(ending.usage), utc_now()

    async def run_ids_of(self, tenant_id: str, person: str | None, *, active: bool = False) -> list[str]:
        """Runs of a person, or (None) of all; with `active` those that have not ended."""
        query = sa.select(WorkflowRunRow.id).where(WorkflowRunRow.tenant_id == tenant_id)
        if person is not None:
            query = query.where(WorkflowRunRow.principal_id == person)
        if active:
            query = query.where(WorkflowRunRow.state == WorkflowState.RUNNING.value)
        return list(await self._session.scalars(query))

    async def page(
        self, tenant_id: str, owner: str | None, *, workflow: str, size: int, token: str
    ) -> tuple[list[WorkflowRunRow], str]:
        """Runs, newest first, of one owner or (None) of all, and the next page's token."""
        query = sa.select(WorkflowRunRow).where(WorkflowRunRow.tenant_id == tenant_id)
        if owner is not None:
            query = query.where(WorkflowRunRow.principal_id == owner)
        if workflow:
            query = query.where(WorkflowRunRow.workflow == workflow)
        if (before := decode_page_token(token, length=1)) is not None:
            query = query.where(WorkflowRunRow.id < str(before[0]))
        rows = list(await self._session.scalars(query.order_by(WorkflowRunRow.id.desc()).limit(size + 1)))
        return rows[:size], encode_page_token([rows[size - 1].id]) if len(rows) > size else ""
