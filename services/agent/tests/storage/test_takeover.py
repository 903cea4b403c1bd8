"""Heartbeats on a real Postgres."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from errand_agent.app import SCHEMA
from errand_agent.storage.models import ExecutorRow
from errand_agent.takeover import Takeover
from errand_common.db import Database, utc_now
from prometheus_client import REGISTRY

_BEAT, _DEAD_AFTER = 0.05, 3.0


def _takeover(database: Database, name: str, **given: Any) -> Takeover:
    return Takeover(database.url, name, schema=SCHEMA, beat_seconds=_BEAT, dead_after_seconds=_DEAD_AFTER, **given)


async def _rows(database: Database) -> dict[str, object]:
    async with database.transaction() as session:
        return {row.executor_id: row.beat_at for row in await session.scalars(sa.select(ExecutorRow))}


async def _add_silent(database: Database, name: str) -> None:
    async with database.transaction() as session:
        session.add(ExecutorRow(executor_id=name, beat_at=utc_now() - timedelta(minutes=1)))


async def test_one_that_is_silent_is_taken_over_from_once(postgres: Database) -> None:
    await _add_silent(postgres, "gone")
    before = REGISTRY.get_sample_value("agent_takeovers_total") or 0.0
    taken: list[str] = []
    living = [_takeover(postgres, name, recover=taken.extend) for name in ("a", "b")]
    for takeover in living:
        await takeover.start()
        takeover.watch()
    async with asyncio.timeout(60):
        while "gone" in await _rows(postgres):  # noqa: ASYNC110 - another process would not ring either
            await asyncio.sleep(0.1)
    assert taken == ["gone"]
    assert REGISTRY.get_sample_value("agent_takeovers_total") == before + 1
    assert set(await _rows(postgres)) == {"a", "b"}
    for takeover in living:
        takeover.close()


async def test_one_that_ends_hands_its_runs_over_and_is_not_waited_for(postgres: Database) -> None:
    taken = asyncio.Event()
    loop = asyncio.get_running_loop()
    leaving = _takeover(postgres, "a")
    living = Takeover(
        postgres.url,
        "b",
        schema=SCHEMA,
        beat_seconds=_BEAT,
        dead_after_seconds=600,
        recover=lambda _: loop.call_soon_threadsafe(taken.set),
    )
    handed_over = REGISTRY.get_sample_value("agent_handovers_total") or 0.0
    for takeover in (leaving, living):
        await takeover.start()
        takeover.watch()
    await leaving.held()
    leaving.close()
    async with asyncio.timeout(60):
        await taken.wait()
        while "a" in await _rows(postgres):  # noqa: ASYNC110 - the thread of a heartbeat does it
            await asyncio.sleep(0.01)
    living.close()
    assert REGISTRY.get_sample_value("agent_handovers_total") == handed_over + 1
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await leaving.held()


async def test_one_that_was_declared_dead_ends(postgres: Database) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    takeover = _takeover(postgres, "a", fence=lambda: loop.call_soon_threadsafe(ended.set))
    await takeover.start()
    async with postgres.transaction() as session:
        await session.execute(sa.delete(ExecutorRow))
    async with asyncio.timeout(60):
        await ended.wait()
    takeover.close()


async def test_it_beats_while_its_loop_is_busy(postgres: Database) -> None:
    takeover = _takeover(postgres, "a")
    await takeover.start()
    before = (await _rows(postgres))["a"]
    engine = sa.create_engine(sa.make_url(postgres.url).set(drivername="postgresql+psycopg"))
    # All of this blocks the event loop, as loading and migrating do.
    with engine.connect() as connection:
        for _ in range(600):
            beat = sa.text(f"SELECT beat_at, pg_sleep(0.1) FROM {SCHEMA}.executors")
            if connection.execute(beat).scalar_one() > before:
                break
        else:
            pytest.fail("no beat in a minute of a busy loop")
    engine.dispose()
    takeover.close()
