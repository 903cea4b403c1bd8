"""A run's events, written while it goes on: in their order, once, and when what they tell of is remembered."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from errand_agent.domain.runs import EventKind, RunEvent
from errand_agent.storage.models import RunRow
from errand_agent.storage.runs import RunRepository
from errand_agent.telling import Teller
from errand_agent.testing.rows import TENANT, stored
from errand_common.db import Database
from errand_common.errors import Unavailable


def _teller(database: Database, run_id: str) -> tuple[Teller, list[str]]:
    """And the runs that it rang for."""
    rung: list[str] = []
    return Teller(database, TENANT, run_id, ring=rung.append, cancelled=False), rung


def _said(text: str) -> list[tuple[EventKind, dict[str, Any]]]:
    return [(EventKind.STEP, {"summary": text})]


async def _events(database: Database, run_id: str) -> Sequence[RunEvent]:
    """All but the first, which says that it started."""
    async with database.transaction(TENANT, read_only=True) as session:
        return (await RunRepository(session).events(TENANT, run_id, 0))[1:]


async def test_what_was_told_before_is_left_out_of_a_batch_without_a_gap(database: Database) -> None:
    run_id = await stored(database)
    for keys in (("1.think",), ("1.think", "1.act", "1.observe")):
        teller, rung = _teller(database, run_id)
        for key in keys:
            teller.put(key, [*_said(key), *_said(key)], None)
        await teller.told()
        assert rung
    events = await _events(database, run_id)
    assert [event.payload["summary"] for event in events] == [
        key for key in ("1.think", "1.act", "1.observe") for _ in range(2)
    ]
    assert [event.sequence for event in events] == list(range(2, 8))


async def test_nothing_is_told_of_a_step_that_is_not_remembered(database: Database) -> None:
    run_id = await stored(database)
    teller, _ = _teller(database, run_id)
    remembered = asyncio.Event()

    async def remember() -> None:
        await remembered.wait()

    teller.put("1.think", _said("first"), asyncio.create_task(remember()))
    teller.put("1.act", _said("second"), None)
    telling = asyncio.create_task(teller.told())
    await asyncio.sleep(0)
    assert not await _events(database, run_id)
    remembered.set()
    await telling
    assert [event.payload["summary"] for event in await _events(database, run_id)] == ["first", "second"]


async def test_who_may_not_remember_tells_nothing_and_is_told_why(database: Database) -> None:
    run_id = await stored(database)
    teller, _ = _teller(database, run_id)

    async def refuse() -> None:
        raise ValueError("another replica has the run")

    teller.put("1.think", _said("never"), asyncio.create_task(refuse()))
    with pytest.raises(ValueError, match="another replica"):
        await teller.told()
    assert not await _events(database, run_id)


async def test_pieces_that_come_at_once_are_one_event_before_what_follows(database: Database) -> None:
    run_id = await stored(database)
    teller, _ = _teller(database, run_id)
    for piece in ("The ", "result ", "is 42."):
        teller.put_piece("2.answer", piece)
    assert teller.has_pieces
    teller.put("2.answer", _said("answered"), None)
    await teller.told()
    assert not teller.has_pieces
    piece, answered = await _events(database, run_id)
    assert (piece.kind, piece.payload) == (EventKind.DELTA, {"text": "The result is 42."})
    assert answered.kind is EventKind.STEP


async def test_a_database_that_was_away_gets_all_and_says_who_shall_end(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("errand_agent.telling._AWAY_SECONDS", 0.0)
    run_id = await stored(database)
    async with database.transaction(TENANT) as session:
        (await session.get_one(RunRow, run_id)).cancel_requested = True
    teller, _ = _teller(database, run_id)
    run, tries = database.run, 0

    async def away_at_first(*given: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise Unavailable("database")
        return await run(*given)

    monkeypatch.setattr(database, "run", away_at_first)
    teller.put("1.think", _said("late"), None)
    await teller.told()
    assert [event.payload["summary"] for event in await _events(database, run_id)] == ["late"]
    assert teller.seen_cancelled


async def test_what_is_not_told_yet_is_left_to_whoever_ends_the_run(database: Database) -> None:
    run_id = await stored(database)
    teller, _ = _teller(database, run_id)
    teller.put("1.think", _said("first"), None)
    await teller.told()
    teller.put_piece("2.answer", "42.")
    teller.put("2.answer", _said("answered"), None)
    untold = await teller.untold()
    async with database.transaction(TENANT) as session:
        row = await session.get_one(RunRow, run_id, with_for_update=True)
        assert await RunRepository(session).append_all(row, *untold, ("ended", [(EventKind.ENDED, {})]))
    events = await _events(database, run_id)
    assert [event.kind for event in events] == [EventKind.STEP, EventKind.DELTA, EventKind.STEP, EventKind.ENDED]
    assert [event.sequence for event in events] == [2, 3, 4, 5]
