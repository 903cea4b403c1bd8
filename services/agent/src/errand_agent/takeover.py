"""Replicas that watch each other: what a dead one was doing, a living one goes on with.

Each replica tells the database every few seconds that it lives, by the database's own clock. One that has
not for longer is taken for dead, and its runs are put back into DBOS's queue; that takes only what is
still the dead one's, so two replicas that notice at once take nothing twice. A replica that finds itself
declared dead ends at once: its runs go on elsewhere.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import timedelta

import sqlalchemy as sa
import structlog
from dbos import DBOS
from errand_common.db import Database
from errand_common.errors import Unavailable
from errand_common.telemetry.metrics import counter
from sqlalchemy.dialects.postgresql import insert

from errand_agent.storage.models import ExecutorRow

BEAT_SECONDS = 2.0
DEAD_AFTER_SECONDS = 8.0
# For the supervisor's log: told apart from a crash.
FENCED_STATUS = 70
TAKEOVERS = counter("agent_takeovers_total", "Replicas whose runs this one took over")
_log = structlog.get_logger(__name__)


class Takeover:
    """This replica's heartbeat, and its eye on the others. For Postgres: SQLite has one process."""

    def __init__(self, database: Database, executor_id: str, *, fence: Callable[[], None] | None = None) -> None:
        self._database, self._executor_id = database, executor_id
        self._fence = fence or _end_at_once

    async def start(self) -> None:
        """Tells that this replica lives, from now on."""
        async with self._database.transaction() as session:
            told = insert(ExecutorRow).values(executor_id=self._executor_id, beat_at=sa.func.now())
            await session.execute(
                told.on_conflict_do_update(index_elements=["executor_id"], set_={"beat_at": sa.func.now()})
            )

    async def run(self) -> None:
        """Beats and looks until cancelled."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                if not await self._beat():
                    _log.critical("declared dead: this replica did not answer in time, its runs go on elsewhere")
                    self._fence()
                for dead in await self._dead():
                    await self._take_over(dead)
            except Unavailable as error:
                _log.warning("the heartbeat was not written", error=error.message)

    async def _beat(self) -> bool:
        """False when others have declared this replica dead."""
        async with self._database.transaction() as session:
            told = sa.update(ExecutorRow).where(ExecutorRow.executor_id == self._executor_id)
            found = await session.execute(told.values(beat_at=sa.func.now()).returning(ExecutorRow.executor_id))
            return found.first() is not None

    async def _dead(self) -> list[str]:
        async with self._database.transaction(read_only=True) as session:
            return list(await session.scalars(sa.select(ExecutorRow.executor_id).where(_is_dead())))

    async def _take_over(self, executor_id: str) -> None:
        """Takes its runs, then forgets it: a crash between the two does the first again, which is harmless."""
        async with self._database.transaction() as session:
            gone = sa.delete(ExecutorRow).where(ExecutorRow.executor_id == executor_id, _is_dead())
            found = await session.execute(gone.returning(ExecutorRow.executor_id))
            if found.first() is None:
                return
            taken = await asyncio.to_thread(DBOS._recover_pending_workflows, [executor_id])
        TAKEOVERS.inc()
        _log.warning("took over from a replica that is gone", executor_id=executor_id, runs=len(taken))


def _is_dead() -> sa.ColumnElement[bool]:
    return ExecutorRow.beat_at < sa.func.now() - timedelta(seconds=DEAD_AFTER_SECONDS)


def _end_at_once() -> None:
    os._exit(FENCED_STATUS)
