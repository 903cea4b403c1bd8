"""Every query on timers: what is due when, for which tenant. Nothing of a tenant's own is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from errand_agent.storage.models import TimerRow


@dataclass(frozen=True, slots=True)
class Timer:
    """Something that is due: of a kind, for a tenant, on a thing of it."""

    kind: str
    tenant: str
    thing: str
    due_at: datetime


class TimerRepository:
    """Timers of all tenants."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def put(self, timer: Timer) -> None:
        """Sets a timer, in place of an earlier one of the same kind, tenant and thing."""
        await self._session.merge(
            TimerRow(kind=timer.kind, tenant=timer.tenant, thing=timer.thing, due_at=timer.due_at)
        )

    async def remove(self, kind: str, tenant: str, thing: str) -> None:
        """Unsets a timer, if it is set."""
        await self._session.execute(
            sa.delete(TimerRow).where(TimerRow.kind == kind, TimerRow.tenant == tenant, TimerRow.thing == thing)
        )

    async def remove_all(self, tenant: str) -> None:
        """Unsets all timers of a tenant."""
        await self._session.execute(sa.delete(TimerRow).where(TimerRow.tenant == tenant))

    async def due(self, now: datetime, kinds: Sequence[str], count: int) -> list[Timer]:
        """Those of these kinds that are due, the oldest first."""
        query = sa.select(TimerRow).where(TimerRow.due_at <= now, TimerRow.kind.in_(kinds))
        rows = await self._session.scalars(query.order_by(TimerRow.due_at).limit(count))
        return [Timer(row.kind, row.tenant, row.thing, row.due_at) for row in rows]

    async def move(self, timer: Timer, due_at: datetime) -> bool:
        """Sets a timer anew; false when somebody else has changed it."""
        result: Any = await self._session.execute(sa.update(TimerRow).where(_still(timer)).values(due_at=due_at))
        return bool(result.rowcount)

    async def remove_taken(self, timer: Timer) -> None:
        """Unsets a timer, unless somebody else has changed it."""
        await self._session.execute(sa.delete(TimerRow).where(_still(timer)))


def _still(timer: Timer) -> sa.ColumnElement[bool]:
    return sa.and_(
        TimerRow.kind == timer.kind,
        TimerRow.tenant == timer.tenant,
        TimerRow.thing == timer.thing,
        TimerRow.due_at == timer.due_at,
    )
