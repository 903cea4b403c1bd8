"""Replicas that watch each other: what a dead one was doing, a living one goes on with.

Each replica tells the database every few seconds that it lives, by the database's own clock. One that has
not for longer is taken for dead, and its runs are put back into DBOS's queue; that takes only what is
still the dead one's, so two replicas that notice at once take nothing twice. A replica that finds itself
declared dead ends at once, and none begins a step while it cannot know: its runs may go on elsewhere.

The heartbeat has a thread and a connection of its own, so that a busy event loop is not taken for a dead
replica; a loop that stands still for long is.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
import structlog
from dbos import DBOS
from errand_common.telemetry.metrics import counter
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import make_url

from errand_agent.domain.pulse import BEAT_SECONDS, DEAD_AFTER_SECONDS, Pulse
from errand_agent.storage.models import ExecutorRow

# For the supervisor's log: told apart from a crash.
FENCED_STATUS = 70
TAKEOVERS = counter("agent_takeovers_total", "Replicas that were gone and whose runs this one took over")
HANDOVERS = counter("agent_handovers_total", "Replicas that ended and whose runs this one was handed over")
# What stands in place of a beat of one that ended: it need not be missed first.
_LEFT = datetime.fromtimestamp(0, UTC)
_PROGRESS_SECONDS = 0.5
_HOLD_SECONDS = 0.1
_CONNECT_SECONDS = 4
_STATEMENT_MS = 4000
_log = structlog.get_logger(__name__)


class Takeover:
    """This replica's heartbeat, and its eye on the others. For Postgres: SQLite has one process.

    `recover` takes over the workflows of the executors it is given.
    """

    def __init__(
        self,
        url: str,
        executor_id: str,
        *,
        schema: str,
        beat_seconds: float = BEAT_SECONDS,
        dead_after_seconds: float = DEAD_AFTER_SECONDS,
        recover: Callable[[list[str]], object] | None = None,
        fence: Callable[[], None] | None = None,
    ) -> None:
        """All replicas of a database need the same two times."""
        self._beat_seconds, self._dead_after = beat_seconds, timedelta(seconds=dead_after_seconds)
        self._executor_id = executor_id
        self._recover = recover or DBOS._recover_pending_workflows
        self._fence = fence or _end_at_once
        self._engine = sa.create_engine(
            make_url(url).set(drivername="postgresql+psycopg"),
            pool_size=1,
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": _CONNECT_SECONDS,
                "options": f"-csearch_path={schema} -cstatement_timeout={_STATEMENT_MS}",
            },
        )
        self._pulse = Pulse(time.monotonic(), dead_after=dead_after_seconds)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._progress: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Tells that this replica lives, from now on."""
        await asyncio.to_thread(self._tell)
        self._progress = asyncio.create_task(self._make_progress())
        self._thread.start()

    def watch(self) -> None:
        """Begins to look at the others, once this replica can take over what they did."""
        self._pulse.is_started = True

    async def held(self) -> None:
        """Waits while others may have taken over; a replica that they did take over from ends meanwhile."""
        while not self._pulse.holds(time.monotonic()):  # noqa: ASYNC110 - the beat comes from a thread
            await asyncio.sleep(_HOLD_SECONDS)

    def close(self) -> None:
        """Leaves: begins no step any more, and hands over what runs here without waiting to be missed.

        The loop's own threads are gone by then, so the wait for a last beat is done here.
        """
        self._pulse.has_left = True
        self._stopped.set()
        if self._progress is not None:
            self._progress.cancel()
        if self._thread.is_alive():
            self._thread.join(_CONNECT_SECONDS)
        try:
            self._leave()
        except sa.exc.SQLAlchemyError as error:
            _log.warning("the runs that are left wait until this replica is missed", error=type(error).__name__)
        self._engine.dispose()

    def _leave(self) -> None:
        told = sa.update(ExecutorRow).where(ExecutorRow.executor_id == self._executor_id)
        with self._engine.begin() as connection:
            connection.execute(told.values(beat_at=_LEFT))

    async def _make_progress(self) -> None:
        while True:
            self._pulse.progress_at = time.monotonic()
            await asyncio.sleep(_PROGRESS_SECONDS)

    def _run(self) -> None:
        while not self._stopped.wait(self._beat_seconds):
            try:
                self._turn()
            except sa.exc.SQLAlchemyError as error:
                _log.warning("the heartbeat was not written", error=type(error).__name__)
            except Exception:
                # Whatever fails here, a replica that falls silent loses its runs.
                _log.exception("the heartbeat failed")

    def _turn(self) -> None:
        if not self._pulse.may_beat(time.monotonic()):
            _log.error("the event loop stands still: others may take over")
            return
        if not self._beat():
            _log.critical("declared dead: this replica did not answer in time, its runs go on elsewhere")
            self._fence()
        if self._pulse.is_started and self._pulse.holds(time.monotonic()):
            for gone in self._gone():
                self._take_over(gone)

    def _tell(self) -> None:
        asked_at = time.monotonic()
        told = insert(ExecutorRow).values(executor_id=self._executor_id, beat_at=sa.func.now())
        with self._engine.begin() as connection:
            connection.execute(
                told.on_conflict_do_update(index_elements=["executor_id"], set_={"beat_at": sa.func.now()})
            )
        self._pulse.beaten(asked_at)

    def _beat(self) -> bool:
        """False when others have declared this replica dead."""
        asked_at = time.monotonic()
        told = sa.update(ExecutorRow).where(ExecutorRow.executor_id == self._executor_id)
        with self._engine.begin() as connection:
            found = connection.execute(told.values(beat_at=sa.func.now()).returning(ExecutorRow.executor_id)).first()
        if found is not None:
            self._pulse.beaten(asked_at)
        return found is not None

    def _gone(self) -> list[str]:
        with self._engine.begin() as connection:
            return list(connection.scalars(sa.select(ExecutorRow.executor_id).where(self._is_gone())))

    def _take_over(self, executor_id: str) -> None:
        """Takes its runs, then forgets it: a crash between the two does the first again, which is harmless."""
        gone = sa.delete(ExecutorRow).where(ExecutorRow.executor_id == executor_id, self._is_gone())
        with self._engine.begin() as connection:
            beat_at = connection.scalar(gone.returning(ExecutorRow.beat_at))
            if beat_at is None:
                return
            self._recover([executor_id])
        if beat_at == _LEFT:
            HANDOVERS.inc()
            _log.info("took over what a replica that ended handed over", executor_id=executor_id)
        else:
            TAKEOVERS.inc()
            _log.warning("took over from a replica that is gone", executor_id=executor_id)

    def _is_gone(self) -> sa.ColumnElement[bool]:
        if self._pulse.may_judge(time.monotonic()):
            return ExecutorRow.beat_at < sa.func.now() - self._dead_after
        return ExecutorRow.beat_at == _LEFT


def _end_at_once() -> None:
    os._exit(FENCED_STATUS)
