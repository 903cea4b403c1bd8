"""Every query on schedules."""

from __future__ import annotations

import sqlalchemy as sa
from errand_common.principal import Principal
from sqlalchemy.ext.asyncio import AsyncSession

from errand_agent.domain.runs import Priority
from errand_agent.domain.schedules import Schedule
from errand_agent.storage.models import ScheduleRow

_DEFINED = ("cron", "message", "time_zone", "agent", "conversation_id", "priority", "paused")


def to_schedule(row: ScheduleRow) -> Schedule:
    """The domain's schedule."""
    defined = {**row.definition, "priority": Priority(row.definition["priority"])}
    return Schedule(
        name=row.name,
        next_at=row.next_at,
        last_run_id=row.last_run_id,
        last_error=row.last_error,
        principal_id=row.principal_id,
        **defined,
    )


class ScheduleRepository:
    """Schedules of one transaction's tenant."""

    def __init__(self, session: AsyncSession, tenant_id: str) -> None:
        self._session, self._tenant_id = session, tenant_id

    async def row(self, name: str) -> ScheduleRow | None:
        """The schedule's row, locked."""
        return await self._session.get(ScheduleRow, (self._tenant_id, name), with_for_update=True)

    async def put(self, schedule: Schedule, principal: Principal) -> ScheduleRow:
        """Stores a schedule in place of an earlier one; what that one did last is remembered."""
        row = await self.row(schedule.name) or ScheduleRow(
            tenant_id=self._tenant_id, name=schedule.name, last_run_id="", last_error=""
        )
        row.principal_id = principal.id
        row.roles, row.scopes = sorted(principal.roles), sorted(principal.scopes)
        row.definition = {name: getattr(schedule, name) for name in _DEFINED}
        row.next_at = schedule.next_at
        self._session.add(row)
        await self._session.flush()
        return row

    async def count(self) -> int:
        """How many the tenant has."""
        query = sa.select(sa.func.count()).select_from(ScheduleRow)
        return await self._session.scalar(query.where(ScheduleRow.tenant_id == self._tenant_id)) or 0

    async def all(self, owner: str | None) -> list[Schedule]:
        """Those of one owner or (None) of all, by name."""
        query = sa.select(ScheduleRow).where(ScheduleRow.tenant_id == self._tenant_id)
        if owner is not None:
            query = query.where(ScheduleRow.principal_id == owner)
        return [to_schedule(row) for row in await self._session.scalars(query.order_by(ScheduleRow.name))]

    async def delete(self, row: ScheduleRow) -> None:
        """Removes it."""
        await self._session.delete(row)
