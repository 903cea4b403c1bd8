"""Runs that are followed until what they used is booked."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from errand_common.db import Database
from errand_common.principal import Principal

from errand_gateway.domain.followed import FollowedKind, FollowedRun
from errand_gateway.domain.pricing import Price
from errand_gateway.storage.models import FollowedRunRow

_BATCH: Final = 1_000


class SqlFollowedRepository:
    """FollowedStore on the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, run: FollowedRun, owner: str, *, held_until: datetime) -> None:
        """Notes a run that this gateway holds."""
        principal = run.principal
        row = FollowedRunRow(
            run_id=run.id,
            kind=run.kind.value,
            owner_tenant=principal.tenant_id,
            principal_id=principal.id,
            roles=sorted(principal.roles),
            scopes=sorted(principal.scopes),
            request_id=principal.request_id,
            project=run.project,
            price=asdict(run.price),
            until=run.until,
            holder=owner,
            due_at=held_until,
        )
        async with self._database.transaction(None) as session:
            # A request that is sent again is answered with the run it has begun.
            await session.merge(row)

    async def hold(self, run_ids: Collection[str], owner: str, *, until: datetime) -> None:
        """This gateway lives and holds these of its runs for longer."""
        mine = sa.update(FollowedRunRow).where(FollowedRunRow.holder == owner)
        held = list(run_ids)
        for start in range(0, len(held), _BATCH):
            batch = mine.where(FollowedRunRow.run_id.in_(held[start : start + _BATCH]))
            async with self._database.transaction(None) as session:
                await session.execute(batch.values(due_at=until))

    async def claim(self, owner: str, *, now: datetime, lease: timedelta, limit: int) -> Sequence[FollowedRun]:
        """Runs that nobody holds, for this gateway from now on."""
        due = FollowedRunRow.due_at <= now
        first = sa.select(FollowedRunRow.run_id).where(due).order_by(FollowedRunRow.due_at).limit(limit)
        async with self._database.transaction(None, read_only=True) as session:
            found = list(await session.scalars(first))
        if not found:
            return []
        taken = sa.update(FollowedRunRow).where(FollowedRunRow.run_id.in_(found), due)
        async with self._database.transaction(None) as session:
            rows = await session.scalars(taken.values(holder=owner, due_at=now + lease).returning(FollowedRunRow))
            return [_followed(row) for row in rows]

    async def release(self, run_id: str, owner: str, *, due_at: datetime) -> None:
        """Lets go of a run: whoever asks from then on gets it."""
        mine = sa.update(FollowedRunRow).where(FollowedRunRow.run_id == run_id, FollowedRunRow.holder == owner)
        async with self._database.transaction(None) as session:
            await session.execute(mine.values(holder="", due_at=due_at))

    async def drop(self, run_id: str, owner: str) -> bool:
        """Forgets a run; false when another gateway holds it, and books it."""
        mine = sa.delete(FollowedRunRow).where(FollowedRunRow.run_id == run_id, FollowedRunRow.holder == owner)
        async with self._database.transaction(None) as session:
            result: Any = await session.execute(mine)
        return bool(result.rowcount)


def _followed(row: FollowedRunRow) -> FollowedRun:
    principal = Principal(
        row.owner_tenant, row.principal_id, frozenset(row.roles), frozenset(row.scopes), row.request_id
    )
    return FollowedRun(row.run_id, FollowedKind(row.kind), principal, row.project, Price(**row.price), row.until)
