"""Counts of calls and what the quality report makes of them."""

from datetime import UTC, date, datetime, timedelta

import pytest
from errand_common.errors import Unavailable
from errand_tools.domain.tools import ExecutionStatus, Outcome, Tool
from errand_tools.domain.usage import RETENTION_DAYS, Usage, UsageBook, bucket_end_ms, bucket_of, percentile
from errand_tools.testing import InMemoryUsageStore

TOOL = Tool("send", "Sends.", {"type": "object"}, schema_hash="abcdef0123456789", version=3)


class Flaky(InMemoryUsageStore):
    """Is away when told so."""

    away = False

    async def add(self, tenant_id: str, counts: list[Usage]) -> None:  # type: ignore[override]
        if self.away:
            raise Unavailable("database", "away")
        await super().add(tenant_id, counts)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 21, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> Flaky:
    return Flaky()


@pytest.fixture
def book(store: Flaky, clock: Clock) -> UsageBook:
    return UsageBook(store, clock)


def ended(status: ExecutionStatus = ExecutionStatus.SUCCEEDED, ms: float = 1.0, cost: int = 0) -> Outcome:
    return Outcome(status, "1", ms, cost_micros=cost)


async def test_a_report_tells_versions_statuses_times_costs_and_arguments(book: UsageBook) -> None:
    for milliseconds in range(1, 101):
        book.count("t1", TOOL, ended(ms=milliseconds, cost=2))
    book.count("t1", TOOL, ended(ExecutionStatus.FAILED, 5, cost=2))
    for argument in ("to", "to", "count"):
        book.count("t1", TOOL, ended(ExecutionStatus.INVALID_ARGUMENTS), argument)
    book.count("t1", Tool("other", "", {}, version=1), ended())
    book.count("t2", TOOL, ended())
    first, second = await book.report("t1", days=1, name="")
    assert (first.name, first.version, first.schema_hash, first.calls) == ("send", 3, "abcdef012345", 104)
    assert (first.by_status[ExecutionStatus.SUCCEEDED], first.by_status[ExecutionStatus.FAILED]) == (100, 1)
    assert first.cost_micros == 202
    assert first.argument_errors == (("to", 2), ("count", 1))
    # Within the width of a bucket, a factor of 1.42.
    assert 50 / 1.42 < first.p50_ms < 50 * 1.42
    assert 95 / 1.42 < first.p95_ms <= first.p99_ms < 99 * 1.42
    assert (second.name, second.p50_ms) == ("other", 0.5)
    assert [row.name for row in await book.report("t1", days=1, name="other")] == ["other"]


async def test_refused_calls_have_no_time(book: UsageBook) -> None:
    book.count("t1", TOOL, ended(ExecutionStatus.DENIED, ms=0))
    [row] = await book.report("t1", days=1, name="")
    assert (row.calls, row.p50_ms) == (1, 0.0)


async def test_a_replay_is_no_call(book: UsageBook) -> None:
    book.count("t1", TOOL, Outcome(ExecutionStatus.SUCCEEDED, "1", 5, replayed=True))
    assert await book.report("t1", days=1, name="") == []


async def test_counts_wait_for_a_store_that_is_away(book: UsageBook, store: Flaky) -> None:
    store.away = True
    book.count("t1", TOOL, ended(cost=1))
    with pytest.raises(Unavailable):
        await book.write()
    book.count("t1", TOOL, ended(cost=1))
    store.away = False
    await book.write()
    await book.write()
    [row] = await book.report("t1", days=1, name="")
    assert (row.calls, row.cost_micros) == (2, 2)


async def test_days_are_counted_back_from_today(book: UsageBook, clock: Clock) -> None:
    book.count("t1", TOOL, ended())
    clock.now += timedelta(days=1)
    book.count("t1", TOOL, ended())
    assert [row.calls for row in await book.report("t1", days=1, name="")] == [1]
    assert [row.calls for row in await book.report("t1", days=2, name="")] == [2]


async def test_old_days_are_removed(book: UsageBook, store: Flaky, clock: Clock) -> None:
    book.count("t1", TOOL, ended())
    await book.write()
    clock.now += timedelta(days=RETENTION_DAYS + 1)
    book.count("t1", TOOL, ended())
    await book.write()
    assert len(await store.since("t1", date(2026, 1, 1), "")) == 1


@pytest.mark.parametrize("milliseconds", [0.0, 0.5, 1.0, 1.1, 3.0, 100.0, 300_000.0, 1e9])
def test_a_bucket_holds_its_durations(milliseconds: float) -> None:
    bucket = bucket_of(milliseconds)
    assert bucket_end_ms(bucket) >= min(milliseconds, 300_000) - 1e-9
    assert bucket == 0 or bucket_end_ms(bucket - 1) < milliseconds


def test_percentiles_of_nothing_and_of_one() -> None:
    assert percentile({}, 0.5) == 0.0
    assert percentile({4: 1}, 1.0) == 4.0
