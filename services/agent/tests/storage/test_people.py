"""What is stored of a person is found in every table, exported, and gone after erasing."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from errand_agent.storage.models import Base
from errand_agent.storage.people import SHARED, PeopleRepository, tables_of_people
from errand_common.db import Database

TENANT = "default"
MOMENT = datetime(2026, 1, 2, tzinfo=UTC)
WITH_TENANT = [table for table in Base.metadata.sorted_tables if "tenant_id" in table.columns]


def _value(column: sa.Column[Any], person: str) -> Any:
    """A value by the column's name and type; ids are one a person, so that keys lead to the same person's rows."""
    if column.name == "tenant_id":
        return TENANT
    if column.name in ("principal_id", "decided_by"):
        return person
    if isinstance(column.type, sa.Text):
        return f"{column.name if column.name == 'name' else 'id'}-{person}"
    if isinstance(column.type, sa.JSON):
        return {}
    if isinstance(column.type, sa.types.TypeDecorator):
        return MOMENT
    return False if isinstance(column.type, sa.Boolean) else 1


async def _fill(database: Database, *people: str) -> None:
    """A row of each person in every table."""
    async with database.transaction(TENANT) as session:
        for person in people:
            for table in WITH_TENANT:
                if table.name in SHARED and person != people[0]:
                    continue
                await session.execute(sa.insert(table).values({c.name: _value(c, person) for c in table.columns}))


async def _rows(database: Database, table: sa.Table) -> list[str]:
    """Every row as text."""
    async with database.transaction(TENANT, read_only=True) as session:
        found = await session.execute(sa.select(table).where(table.c.tenant_id == TENANT))
        return [json.dumps(dict(row), default=str) for row in found.mappings()]


def test_every_table_is_somebodys_or_named_as_shared() -> None:
    assert set(tables_of_people()) | SHARED == {table.name for table in WITH_TENANT}


async def test_erasing_leaves_nothing_of_a_person_in_any_table(database: Database) -> None:
    await _fill(database, "ann", "bob")
    async with database.transaction(TENANT) as session:
        people = PeopleRepository(session, TENANT)
        assert await people.count("ann") == dict.fromkeys(tables_of_people(), 1)
        await people.erase("ann")
        assert await people.count("ann") == {}
    for name, table in tables_of_people().items():
        rows = await _rows(database, table)
        assert len(rows) == 1, name
        assert "ann" not in rows[0], name


async def test_who_decided_for_others_is_forgotten_too(database: Database) -> None:
    await _fill(database, "ann", "bob")
    approvals = tables_of_people()["approvals"]
    async with database.transaction(TENANT) as session:
        await session.execute(sa.update(approvals).values(decided_by="ann"))
        await PeopleRepository(session, TENANT).erase("ann")
    [row] = await _rows(database, approvals)
    assert json.loads(row)["decided_by"] == ""


async def test_an_export_has_every_table_and_no_strangers(database: Database) -> None:
    await _fill(database, "ann", "bob")
    async with database.transaction(TENANT, read_only=True) as session:
        found = [row async for row in PeopleRepository(session, TENANT).rows_of("ann")]
        ofconversation = [row async for row in PeopleRepository(session, TENANT).rows_of_conversation("id-ann")]
    assert {name for name, _ in found} == set(tables_of_people())
    assert "bob" not in json.dumps(found)
    assert all("embedding" not in row for _, row in found)
    tables = {name for name, _ in ofconversation}
    assert {"conversations", "messages", "runs", "run_events", "approvals", "feedback", "facts"} <= tables
    assert not tables & {"consents", "workflow_runs"}


async def test_an_export_goes_over_pages(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("errand_agent.storage.people._PAGE", 2)
    await _fill(database, "ann")
    events = tables_of_people()["run_events"]
    async with database.transaction(TENANT) as session:
        for sequence in range(2, 6):
            values = {column.name: _value(column, "ann") for column in events.columns}
            await session.execute(sa.insert(events).values({**values, "sequence": sequence}))
        found = [row async for name, row in PeopleRepository(session, TENANT).rows_of("ann") if name == "run_events"]
    assert [row["sequence"] for row in found] == [1, 2, 3, 4, 5]
