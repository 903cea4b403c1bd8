"""Every query on approvals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from errand_common.db import decode_page_token, encode_page_token, new_id, utc_now
from sqlalchemy.ext.asyncio import AsyncSession

from errand_agent.domain.approvals import Approval, ApprovalState
from errand_agent.domain.ports import Call
from errand_agent.storage.models import ApprovalRow, RunRow


def to_approval(row: ApprovalRow) -> Approval:
    """The domain's approval."""
    return Approval(
        id=row.id,
        run_id=row.run_id,
        tool_name=row.tool_name,
        arguments_json=row.arguments_json,
        state=ApprovalState(row.state),
        created_at=row.created_at,
        expires_at=row.expires_at,
        edited_arguments_json=row.edited_arguments_json,
        reason=row.reason,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
    )


class ApprovalRepository:
    """Approvals of one transaction's tenant."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def of_step(self, run_id: str, step: int) -> dict[int, ApprovalRow]:
        """A step's approvals by the call's index."""
        query = sa.select(ApprovalRow).where(ApprovalRow.run_id == run_id, ApprovalRow.step == step)
        return {row.call_index: row for row in await self._session.scalars(query.with_for_update())}

    async def ask(self, run: RunRow, step: int, calls: Mapping[int, Call], seconds: float) -> list[ApprovalRow]:
        """Asks for those calls that were not asked for before; gives the new ones."""
        known = await self.of_step(run.id, step)
        now = utc_now()
        rows = [
            ApprovalRow(
                id=new_id("appr"),
                tenant_id=run.tenant_id,
                run_id=run.id,
                step=step,
                call_index=index,
                tool_name=call.name,
                arguments_json=call.arguments_json,
                state=ApprovalState.PENDING.value,
                created_at=now,
                expires_at=now + timedelta(seconds=seconds),
                edited_arguments_json="",
                reason="",
                decided_by="",
            )
            for index, call in calls.items()
            if index not in known
        ]
        self._session.add_all(rows)
        await self._session.flush()
        return rows

    async def row(self, tenant_id: str, approval_id: str) -> ApprovalRow | None:
        """The approval, locked."""
        found = await self._session.get(ApprovalRow, approval_id, with_for_update=True)
        return found if found is not None and found.tenant_id == tenant_id else None

    def decide(
        self,
        row: ApprovalRow,
        state: ApprovalState,
        at: datetime,
        *,
        by: str = "",
        reason: str = "",
        edited_arguments_json: str = "",
    ) -> None:
        """Stores a decision on a pending one."""
        row.state, row.decided_at, row.decided_by = state.value, at, by
        row.reason, row.edited_arguments_json = reason, edited_arguments_json

    async def called(self, ids: Sequence[str], run_id: str) -> list[ApprovalRow]:
        """Those of these approvals that other runs than this one asked for, the oldest first."""
        query = sa.select(ApprovalRow).where(ApprovalRow.id.in_(ids), ApprovalRow.run_id != run_id)
        return list(await self._session.scalars(query.order_by(ApprovalRow.id)))

    async def waited_seconds(self, run_ids: Sequence[str], now: datetime) -> float:
        """How long these runs' steps have waited for people until now; calls of one step wait together."""
        rows = await self._session.scalars(sa.select(ApprovalRow).where(ApprovalRow.run_id.in_(run_ids)))
        spans: dict[tuple[str, int], tuple[datetime, datetime]] = {}
        for row in rows:
            asked_at, decided_at = spans.get((row.run_id, row.step), (row.created_at, row.created_at))
            spans[row.run_id, row.step] = min(asked_at, row.created_at), max(decided_at, row.decided_at or now)
        return sum((decided_at - asked_at).total_seconds() for asked_at, decided_at in spans.values())

    async def pending(self, *run_ids: str) -> list[ApprovalRow]:
        """Those of runs that still wait."""
        query = sa.select(ApprovalRow).where(
            ApprovalRow.run_id.in_(run_ids), ApprovalRow.state == ApprovalState.PENDING.value
        )
        return list(await self._session.scalars(query.order_by(ApprovalRow.id)))

    async def page(
        self, tenant_id: str, owner: str | None, *, run_id: str, state: ApprovalState | None, size: int, token: str
    ) -> tuple[Sequence[ApprovalRow], str]:
        """Approvals, newest first, of one owner's runs or (None) of all, and the next page's token."""
        query = sa.select(ApprovalRow).where(ApprovalRow.tenant_id == tenant_id)
        if owner is not None:
            query = query.join(RunRow, RunRow.id == ApprovalRow.run_id).where(RunRow.principal_id == owner)
        if run_id:
            query = query.where(ApprovalRow.run_id == run_id)
        if state is not None:
            query = query.where(ApprovalRow.state == state.value)
        if (before := decode_page_token(token, length=1)) is not None:
            query = query.where(ApprovalRow.id < str(before[0]))
        rows = list(await self._session.scalars(query.order_by(ApprovalRow.id.desc()).limit(size + 1)))
        return rows[:size], encode_page_token([rows[size - 1].id]) if len(rows) > size else ""
