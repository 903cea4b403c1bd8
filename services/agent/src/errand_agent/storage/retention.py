"""Every query on how long things are kept, and on what is older."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from errand_agent.domain.retention import Retention
from errand_agent.domain.workflows import WorkflowState
from errand_agent.storage.models import ConversationRow, FactRow, RetentionRow, RunRow, WorkflowRunRow


class RetentionRepository:
    """The retention of one transaction's tenant."""

    def __init__(self, session: AsyncSession, tenant_id: str) -> None:
        self._session, self._tenant_id = session, tenant_id

    async def get(self) -> Retention:
        """What is in force."""
        row = await self._session.get(RetentionRow, self._tenant_id)
        if row is None:
            return Retention()
        return Retention(row.conversation_days, row.workflow_run_days, row.fact_days, row.swept_at)

    async def put(self, retention: Retention) -> None:
        """Replaces what is in force."""
        await self._session.merge(
            RetentionRow(
                tenant_id=self._tenant_id,
                conversation_days=retention.conversation_days,
                workflow_run_days=retention.workflow_run_days,
                fact_days=retention.fact_days,
                swept_at=retention.swept_at,
            )
        )

    async def old_conversations(self, before: datetime, count: int) -> list[str]:
        """Conversations that nobody used since, and that no run holds."""
        query = sa.select(ConversationRow.id).where(
            ConversationRow.tenant_id == self._tenant_id,
            ConversationRow.updated_at < before,
            ConversationRow.active_run_id.is_(None),
            ~sa.exists().where(RunRow.conversation_id == ConversationRow.id, RunRow.waiting.is_(True)),
        )
        return list(await self._session.scalars(query.order_by(ConversationRow.id).limit(count)))

    async def runs_in(self, conversation_ids: list[str]) -> list[str]:
        """Runs of these conversations."""
        query = sa.select(RunRow.id).where(
            RunRow.tenant_id == self._tenant_id, RunRow.conversation_id.in_(conversation_ids)
        )
        return list(await self._session.scalars(query))

    async def delete_conversations(self, ids: list[str], before: datetime) -> int:
        """Deletes those of them that were not used meanwhile; how many."""
        gone = sa.delete(ConversationRow).where(
            ConversationRow.id.in_(ids),
            ConversationRow.tenant_id == self._tenant_id,
            ConversationRow.updated_at < before,
            ConversationRow.active_run_id.is_(None),
        )
        return await self._deleted(gone)

    async def old_workflow_runs(self, before: datetime, count: int) -> list[str]:
        """Runs of workflows that ended before."""
        query = sa.select(WorkflowRunRow.id).where(
            WorkflowRunRow.tenant_id == self._tenant_id,
            WorkflowRunRow.state != WorkflowState.RUNNING.value,
            WorkflowRunRow.ended_at < before,
        )
        return list(await self._session.scalars(query.order_by(WorkflowRunRow.id).limit(count)))

    async def delete_workflow_runs(self, ids: list[str]) -> int:
        """How many there were."""
        gone = sa.delete(WorkflowRunRow).where(WorkflowRunRow.id.in_(ids), WorkflowRunRow.tenant_id == self._tenant_id)
        return await self._deleted(gone)

    async def delete_facts(self, before: datetime) -> int:
        """Facts that nobody told since; how many."""
        gone = sa.delete(FactRow).where(FactRow.tenant_id == self._tenant_id, FactRow.updated_at < before)
        return await self._deleted(gone)

    async def _deleted(self, statement: sa.Delete) -> int:
        result: Any = await self._session.execute(statement)
        return int(result.rowcount)
