"""How long things are kept; what is kept of a person, and its erasure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from errand_common.db import Database, utc_now
from errand_common.erasure import erase_tenant
from errand_common.errors import Conflict, Internal, NotFound, PermissionDenied
from errand_common.principal import current_principal, may_erase_tenant
from errand_common.telemetry.metrics import counter

from errand_agent.domain.retention import Retention, cutoff
from errand_agent.executor import RunExecutor
from errand_agent.storage.conversations import ConversationRepository
from errand_agent.storage.models import Base
from errand_agent.storage.people import PeopleRepository
from errand_agent.storage.retention import RetentionRepository
from errand_agent.storage.runs import RunRepository
from errand_agent.storage.timers import Timer, TimerRepository
from errand_agent.storage.workflows import WorkflowRepository
from errand_agent.use_cases.access import visible_owner
from errand_agent.use_cases.runs import RunUseCases
from errand_agent.use_cases.workflows import WorkflowUseCases

KIND = "retention"
DELETED = counter("agent_retention_deleted_total", "Rows deleted because of their age", "table")
_EVERY = timedelta(hours=1)
_BATCH = 100
_END_SECONDS = 60.0
_LOOK_SECONDS = 0.2


class Traces(Protocol):
    """What a store of traces keeps of people's words."""

    async def erase(self, tenant_id: str, *, person: str = "", before: datetime | None = None) -> int:
        """Deletes and counts a tenant's, or its one person's, or those older than a moment. Raises Unavailable."""
        ...


class PrivacyUseCases:
    """What people of the caller's tenant left behind."""

    def __init__(
        self,
        database: Database,
        executor: RunExecutor,
        runs: RunUseCases,
        workflows: WorkflowUseCases,
        traces: Traces | None = None,
    ) -> None:
        """Without `traces` nobody is known who keeps any."""
        self._database, self._executor, self._runs, self._workflows = database, executor, runs, workflows
        self._traces = traces

    async def retention(self) -> Retention:
        """What is in force."""
        tenant_id = current_principal().tenant_id
        async with self._database.transaction(tenant_id, read_only=True) as session:
            return await RetentionRepository(session, tenant_id).get()

    async def set_retention(self, retention: Retention) -> Retention:
        """Raises PermissionDenied. What is older goes with the next sweep."""
        principal = current_principal()
        if visible_owner(principal) is not None:
            raise PermissionDenied("Only an admin may change how long things are kept.", permission="retention")
        tenant_id = principal.tenant_id
        async with self._database.transaction(tenant_id) as session:
            stored = RetentionRepository(session, tenant_id)
            await stored.put(replace(retention, swept_at=(await stored.get()).swept_at))
            timers = TimerRepository(session)
            if retention.is_for_ever:
                await timers.remove(KIND, tenant_id, "")
            else:
                await timers.put(Timer(KIND, tenant_id, "", utc_now()))
            return await stored.get()

    async def sweep(self, timer: Timer) -> datetime | None:
        """Deletes what a tenant does not keep; gives when it is next."""
        async with self._database.transaction(timer.tenant, read_only=True) as session:
            retention = await RetentionRepository(session, timer.tenant).get()
        if retention.is_for_ever:
            return None
        now = utc_now()
        if (before := cutoff(now, retention.conversation_days)) is not None:
            await self._sweep_conversations(timer.tenant, before)
        if (before := cutoff(now, retention.workflow_run_days)) is not None:
            await self._sweep_workflow_runs(timer.tenant, before)
        async with self._database.transaction(timer.tenant) as session:
            stored = RetentionRepository(session, timer.tenant)
            if (before := cutoff(now, retention.fact_days)) is not None:
                DELETED.labels("facts").inc(await stored.delete_facts(before))
            await stored.put(replace(await stored.get(), swept_at=now))
        return now + _EVERY

    async def _sweep_conversations(self, tenant_id: str, before: datetime) -> None:
        deleted = _BATCH
        while deleted == _BATCH:
            async with self._database.transaction(tenant_id, read_only=True) as session:
                stored = RetentionRepository(session, tenant_id)
                ids = await stored.old_conversations(before, _BATCH)
                run_ids = await stored.runs_in(ids)
            # Steps first: without the rows nobody would find them again.
            await self._executor.forget(run_ids)
            async with self._database.transaction(tenant_id) as session:
                deleted = await RetentionRepository(session, tenant_id).delete_conversations(ids, before)
            DELETED.labels("conversations").inc(deleted)
        if self._traces is not None:
            DELETED.labels("traces").inc(await self._traces.erase(tenant_id, before=before))

    async def _sweep_workflow_runs(self, tenant_id: str, before: datetime) -> None:
        deleted = _BATCH
        while deleted == _BATCH:
            async with self._database.transaction(tenant_id, read_only=True) as session:
                ids = await RetentionRepository(session, tenant_id).old_workflow_runs(before, _BATCH)
            await self._executor.forget(ids)
            async with self._database.transaction(tenant_id) as session:
                deleted = await RetentionRepository(session, tenant_id).delete_workflow_runs(ids)
            DELETED.labels("workflow_runs").inc(deleted)

    async def export_person(self, person: str) -> AsyncGenerator[str, None]:
        """A line for each row. Raises PermissionDenied."""
        tenant_id, person = current_principal().tenant_id, self._allowed(person)
        async with self._database.transaction(tenant_id, read_only=True) as session:
            async for table, row in PeopleRepository(session, tenant_id).rows_of(person):
                yield _line(table, row)

    async def export_conversation(self, conversation_id: str) -> AsyncGenerator[str, None]:
        """A line for each row. Raises NotFound."""
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id, read_only=True) as session:
            conversations = ConversationRepository(session)
            if await conversations.row(principal.tenant_id, conversation_id, visible_owner(principal)) is None:
                raise NotFound("conversation", conversation_id)
            found = PeopleRepository(session, principal.tenant_id).rows_of_conversation(conversation_id)
            async for table, row in found:
                yield _line(table, row)

    async def erase_person(self, person: str) -> dict[str, int]:
        """Rows that were deleted, by table, and traces.

        Raises PermissionDenied, Unavailable while the store of traces is away, and Conflict while runs of the person
        end.
        """
        tenant_id, person = current_principal().tenant_id, self._allowed(person)
        await self._end_runs(tenant_id, person)
        traces = await self._erased_traces(tenant_id, person)
        await self._forget(tenant_id, person)
        async with self._database.transaction(tenant_id) as session:
            people = PeopleRepository(session, tenant_id)
            erased = await people.count(person)
            await people.erase(person)
            if left := await people.count(person):
                raise Internal(f"rows were left: {left}")
        return erased | traces

    async def erase_tenant(self, tenant_id: str) -> dict[str, int]:
        """Rows that were deleted, by table, and traces.

        Raises PermissionDenied, Unavailable while the store of traces is away, and Conflict while its runs end.
        """
        may_erase_tenant(current_principal(), tenant_id)
        async with self._database.transaction(tenant_id) as session:
            # First: a schedule that comes due would begin another run.
            await TimerRepository(session).remove_all(tenant_id)
        await self._end_runs(tenant_id, None)
        traces = await self._erased_traces(tenant_id)
        await self._forget(tenant_id, None)
        return await erase_tenant(self._database, Base.metadata, tenant_id) | traces

    async def _erased_traces(self, tenant_id: str, person: str = "") -> dict[str, int]:
        """Before the rows: who asks again after Unavailable is told of both."""
        erased = await self._traces.erase(tenant_id, person=person) if self._traces is not None else 0
        return {"traces": erased} if erased else {}

    async def _forget(self, tenant_id: str, person: str | None) -> None:
        """Deletes what the steps of ended runs remember: without the rows nobody would find them again."""
        async with self._database.transaction(tenant_id, read_only=True) as session:
            run_ids = await RunRepository(session).ids_of(tenant_id, person)
            workflow_run_ids = await WorkflowRepository(session).run_ids_of(tenant_id, person)
        await self._executor.forget([*run_ids, *workflow_run_ids])

    def _allowed(self, person: str) -> str:
        principal = current_principal()
        if visible_owner(principal) not in (None, person or principal.id):
            raise PermissionDenied("principal_id: only an admin may ask for another person.", permission="privacy")
        return person or principal.id

    async def _end_runs(self, tenant_id: str, person: str | None) -> None:
        """Cancels what goes on and waits: a run that ends later would store its answer again."""
        until = utc_now() + timedelta(seconds=_END_SECONDS)
        while going_on := await self._going_on(tenant_id, person):
            if utc_now() > until:
                raise Conflict(
                    f"{len(going_on)} runs still end; ask again in a minute.",
                    resource="run",
                    id=going_on[0],
                )
            await asyncio.sleep(_LOOK_SECONDS)

    async def _going_on(self, tenant_id: str, person: str | None) -> list[str]:
        async with self._database.transaction(tenant_id, read_only=True) as session:
            runs = await RunRepository(session).ids_of(tenant_id, person, active=True)
            workflow_runs = await WorkflowRepository(session).run_ids_of(tenant_id, person, active=True)
        for run_id in workflow_runs:
            await self._workflows.cancel(run_id)
        for run_id in runs:
            await self._runs.cancel(run_id)
        return [*runs, *workflow_runs]


def _line(table: str, row: dict[str, object]) -> str:
    return json.dumps({"table": table, "row": row}, ensure_ascii=False)
