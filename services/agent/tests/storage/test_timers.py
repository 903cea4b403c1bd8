"""Work that is due, on SQLite and Postgres."""

from datetime import datetime, timedelta

from errand_agent.storage.timers import Timer, TimerRepository
from errand_agent.timers import Timers
from errand_common.db import Database, utc_now
from prometheus_client import REGISTRY


async def test_work_that_fails_is_counted_and_due_again(database: Database) -> None:
    kind = "test_of_failing_work"

    async def fails(timer: Timer) -> datetime | None:
        raise RuntimeError("no")

    due = Timer(kind, "acme", "thing", utc_now() - timedelta(seconds=1))
    async with database.transaction() as session:
        await TimerRepository(session).put(due)
    before = REGISTRY.get_sample_value("agent_timers_failed_total", {"kind": kind}) or 0.0
    await Timers(database, {kind: fails}).turn()
    assert REGISTRY.get_sample_value("agent_timers_failed_total", {"kind": kind}) == before + 1
    async with database.transaction(read_only=True) as session:
        assert await TimerRepository(session).due(utc_now(), [kind], 1) == []
        [again] = await TimerRepository(session).due(utc_now() + timedelta(minutes=2), [kind], 1)
    assert again.thing == "thing"
