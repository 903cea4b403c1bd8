"""Every query on consents, and on runs as examples."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from errand_common.db import utc_now
from errand_common.principal import Principal
from sqlalchemy.ext.asyncio import AsyncSession

from errand_agent.domain.examples import AnsweredRun, Feedback
from errand_agent.domain.runs import StopReason
from errand_agent.storage.models import ConsentRow, FeedbackRow, RunRow
from errand_agent.storage.runs import RunRepository, agent_of


@dataclass(frozen=True, slots=True)
class ExampleFilter:
    """Which runs are wanted; empty and None for all."""

    agent: str = ""
    since: datetime | None = None
    until: datetime | None = None


class ExampleRepository:
    """Consents and examples of one transaction's tenant."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def set_consent(self, principal: Principal, training: bool) -> None:
        """Stores a person's consent in place of an earlier one."""
        await self._session.merge(
            ConsentRow(
                tenant_id=principal.tenant_id, principal_id=principal.id, training=training, changed_at=utc_now()
            )
        )

    async def consent(self, principal: Principal) -> bool:
        """Whether a person consents."""
        row = await self._session.get(ConsentRow, (principal.tenant_id, principal.id))
        return row is not None and row.training

    async def answered(self, tenant_id: str, wanted: ExampleFilter, after: str, count: int) -> list[AnsweredRun]:
        """The next answered runs of people who consent, oldest first."""
        query = (
            sa.select(RunRow)
            .join(
                ConsentRow,
                sa.and_(ConsentRow.tenant_id == RunRow.tenant_id, ConsentRow.principal_id == RunRow.principal_id),
            )
            .where(RunRow.tenant_id == tenant_id, ConsentRow.training.is_(True), RunRow.id > after)
            .where(RunRow.stop_reason == StopReason.ANSWER.value)
        )
        if wanted.agent:
            query = query.where(RunRow.agent == wanted.agent)
        if wanted.since is not None:
            query = query.where(RunRow.created_at >= wanted.since)
        if wanted.until is not None:
            query = query.where(RunRow.created_at < wanted.until)
        rows = list(await self._session.scalars(query.order_by(RunRow.id).limit(count)))
        return [await self._example(tenant_id, row) for row in rows]

    async def _example(self, tenant_id: str, row: RunRow) -> AnsweredRun:
        said = sa.select(FeedbackRow).where(FeedbackRow.tenant_id == tenant_id, FeedbackRow.run_id == row.id)
        feedback = await self._session.scalar(said.order_by(FeedbackRow.created_at.desc()).limit(1))
        return AnsweredRun(
            run_id=row.id,
            agent=agent_of(row),
            message=row.message,
            answer=row.answer,
            steps=await RunRepository(self._session).steps(tenant_id, row.id),
            feedback=Feedback(feedback.helpful, feedback.correction) if feedback else None,
        )
