"""What a process that was killed left behind is written down by the next one, once."""

import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest_asyncio
from errand_common.db import Database, new_id, utc_now
from errand_gateway.domain.records import AuditEvent, Recorder, UsageRecord
from errand_gateway.domain.resources import PageQuery
from errand_gateway.storage.journal import FileJournal
from errand_gateway.storage.models import SCHEMA
from errand_gateway.storage.records import SqlRecordRepository


def record(number: int, tenant: str = "one") -> tuple[AuditEvent, UsageRecord]:
    """What is written down of one request."""
    now = utc_now()
    audit = AuditEvent(tenant, now, "key_1", "runs:create", "POST", "/api/v1/chat", 200, f"req-{number}")
    figures = {"status": 200, "stop_reason": "answer", "prompt_tokens": number, "completion_tokens": 1}
    usage = UsageRecord(
        new_id("use"), tenant, "key_1", f"req-{number}", "runs:create", "default", "", "run_1",
        cached_tokens=0, duration_ms=1.5, created_at=now, **figures,
    )  # fmt: skip
    return audit, usage


@pytest_asyncio.fixture(loop_scope="session")
async def records(tmp_path: Path, template: Path) -> AsyncIterator[SqlRecordRepository]:
    shutil.copy(template, tmp_path / "gateway.db")
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}", schema=SCHEMA)
    yield SqlRecordRepository(database)
    await database.close()


def recorder() -> Recorder:
    """A recorder that loses nothing in silence."""

    def fail(error: Exception) -> None:
        raise error

    def drop(count: int) -> None:
        raise AssertionError(f"{count} dropped")

    return Recorder(flush_seconds=1, on_dropped=drop, on_failure=fail)


async def test_records_of_a_dead_process_are_written_once(tmp_path: Path, records: SqlRecordRepository) -> None:
    folder = tmp_path / "journal"
    dead = FileJournal(folder)
    written, lost = [record(n) for n in range(3)], [record(n, "two") for n in range(3, 5)]
    for row in (*written, *lost):
        dead.append(row)
    await records.add("one", [usage for _, usage in written], [audit for audit, _ in written], {})
    dead.close()
    after = FileJournal(folder)
    assert await recorder().recover(records, after) == len(lost)
    assert await recorder().recover(records, after) == 0
    for tenant, count in (("one", 3), ("two", 2)):
        check = await records.verify_audit(tenant)
        assert (check.intact, check.entries) == (True, count)
        assert len((await records.list_usage(tenant, PageQuery())).items) == count
    after.close()
    assert list(folder.iterdir()) == []


async def test_a_process_that_lives_keeps_its_records(tmp_path: Path, records: SqlRecordRepository) -> None:
    living = FileJournal(tmp_path / "journal")
    living.append(record(1))
    other = FileJournal(tmp_path / "journal")
    assert await recorder().recover(records, other) == 0
    living.close()
    other.close()


async def test_a_torn_line_costs_itself_alone(tmp_path: Path, records: SqlRecordRepository) -> None:
    dead = FileJournal(tmp_path / "journal")
    dead.append(record(1))
    dead.close()
    segment = next((tmp_path / "journal").glob("*.jsonl"))
    segment.write_bytes(segment.read_bytes() + b'[{"tenant_id": "one", "at"')
    after = FileJournal(tmp_path / "journal")
    assert await recorder().recover(records, after) == 1
    after.close()


async def test_what_was_written_is_forgotten(tmp_path: Path, records: SqlRecordRepository) -> None:
    journal, mine = FileJournal(tmp_path / "journal"), recorder()
    await mine.recover(records, journal)
    mine.record(*record(1))
    mine.record(replace(record(2)[0]), None)
    assert sum(path.stat().st_size for path in (tmp_path / "journal").glob("*.jsonl")) > 0
    await mine.flush(records)
    assert sum(path.stat().st_size for path in (tmp_path / "journal").glob("*.jsonl")) == 0
    assert (await records.verify_audit("one")).entries == 2
    journal.close()
