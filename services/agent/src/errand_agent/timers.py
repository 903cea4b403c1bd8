"""Does what is due: each timer's work, and then its next time.

A timer is taken for a while before its work is done, so that replicas do not do the same at once. A crash
leads to the work being done again: the work of every kind changes nothing the second time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import structlog
from errand_common.db import Database, utc_now
from errand_common.errors import ErrandError
from errand_common.telemetry import tracer
from errand_common.telemetry.bound import kept_span
from errand_common.telemetry.metrics import counter
from opentelemetry.context import Context

from errand_agent.storage.timers import Timer, TimerRepository

FAILED = counter("agent_timers_failed_total", "Work that was due and failed; it is tried again", "kind")
_LOOK_SECONDS = 2.0
_AT_ONCE = 16
_TAKEN = timedelta(minutes=5)
_RETRY = timedelta(minutes=1)
_log = structlog.get_logger(__name__)
_tracer = tracer(__name__)

# Does what is due; gives when it is next, None for never again.
Work = Callable[[Timer], Awaitable[datetime | None]]


class Timers:
    """Timers of all tenants, of the kinds that there is work for."""

    def __init__(self, database: Database, works: Mapping[str, Work]) -> None:
        self._database, self._works = database, works

    async def run(self) -> None:
        """Looks again and again, until cancelled."""
        while True:
            try:
                more = await self.turn()
            except Exception as error:
                _log.warning("timers were not read", error=type(error).__name__)
                more = False
            if not more:
                await asyncio.sleep(_LOOK_SECONDS)

    async def turn(self) -> bool:
        """Does what is due now, so many at once; whether there may be more."""
        async with self._database.transaction(read_only=True) as session:
            due = await TimerRepository(session).due(utc_now(), list(self._works), _AT_ONCE)
        await asyncio.gather(*(self._do(timer) for timer in due))
        return len(due) == _AT_ONCE

    async def _do(self, timer: Timer) -> None:
        taken = replace(timer, due_at=utc_now() + _TAKEN)
        async with self._database.transaction() as session:
            if not await TimerRepository(session).move(timer, taken.due_at):
                return
        try:
            # Work that begins runs hands its trace to them: what a crash interrupts goes on in the same.
            with kept_span(_tracer, f"due {timer.kind}", Context()):
                following = await self._works[timer.kind](timer)
        except Exception as error:
            FAILED.labels(timer.kind).inc()
            reason = error.message if isinstance(error, ErrandError) else type(error).__name__
            _log.warning("what was due failed", kind=timer.kind, thing=timer.thing, error=reason)
            following = utc_now() + _RETRY
        async with self._database.transaction() as session:
            timers = TimerRepository(session)
            if following is None:
                await timers.remove_taken(taken)
            else:
                await timers.move(taken, following)
