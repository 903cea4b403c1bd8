"""Spending against quotas: never past the limit, nothing lost to failures."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from errand_common.db import Database, new_id, utc_now
from errand_common.errors import QuotaExceeded
from errand_common.principal import Principal
from errand_gateway.domain.auth import TenantState
from errand_gateway.domain.pricing import Price, PriceTable
from errand_gateway.domain.quota_keeper import QuotaKeeper
from errand_gateway.domain.quotas import (
    Quota,
    QuotaMeasure,
    QuotaPeriod,
    QuotaSubject,
    Spend,
    period_start,
    seconds_left,
)
from errand_gateway.domain.resources import Usage
from errand_gateway.domain.tenants import Tenant
from errand_gateway.storage.models import SCHEMA
from errand_gateway.storage.quotas import SqlQuotaRepository
from errand_gateway.storage.tenants import SqlTenantRepository

T = TypeVar("T")
ADA = Principal("acme", "key_ada", frozenset({"user"}), frozenset({"chat"}), "req_1")


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 21, 12, tzinfo=UTC)

    def moment(self) -> datetime:
        return self.now

    def seconds(self) -> float:
        return self.now.timestamp()

    def pass_seconds(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest_asyncio.fixture(loop_scope="session")
async def ledger(tmp_path: Path, template: Path) -> AsyncIterator[SqlQuotaRepository]:
    shutil.copy(template, tmp_path / "gateway.db")
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/gateway.db", schema=SCHEMA)
    await SqlTenantRepository(database).add(Tenant("acme", "Acme", TenantState.ACTIVE, utc_now()))
    yield SqlQuotaRepository(database)
    await database.close()


async def set_quota(ledger: SqlQuotaRepository, amount: int, measure: QuotaMeasure = QuotaMeasure.TOKENS) -> Quota:
    """A daily quota of the tenant."""
    quota = Quota(new_id("quota"), "acme", QuotaSubject.TENANT, "acme", QuotaPeriod.DAY, measure, amount, 1, utc_now())
    await ledger.add(quota)
    return quota


def keeper(ledger: SqlQuotaRepository, clock: Clock, holder: str = "gw_1") -> QuotaKeeper:
    """One gateway's keeper."""

    def fail(error: Exception) -> None:
        raise error

    return QuotaKeeper(ledger, holder=holder, now=clock.moment, clock=clock.seconds, on_failure=fail)


async def test_what_is_held_cannot_be_spent_twice(ledger: SqlQuotaRepository) -> None:
    await set_quota(ledger, 100)
    mine = keeper(ledger, Clock())
    first = await mine.reserve(ADA, Spend(tokens=60))
    with pytest.raises(QuotaExceeded) as refused:
        await mine.reserve(ADA, Spend(tokens=60))
    assert refused.value.retry_after_seconds == 12 * 3600
    first.settle(Spend(tokens=30))
    first.settle(Spend(tokens=30))
    (await mine.reserve(ADA, Spend(tokens=60))).settle(Spend(tokens=60))
    with pytest.raises(QuotaExceeded):
        await mine.reserve(ADA, Spend(tokens=11))


async def test_failed_work_costs_nothing(ledger: SqlQuotaRepository) -> None:
    quota = await set_quota(ledger, 100)
    clock = Clock()
    mine = keeper(ledger, clock)
    for _ in range(5):
        (await mine.reserve(ADA, Spend(tokens=100))).settle(Spend())
    await mine.close(seconds=5)
    state = await ledger.get("acme", quota.id, clock.now)
    assert (state.spent, state.held, state.remaining) == (0, 0, 100)


async def test_a_refusal_by_one_quota_holds_nothing_of_the_others(ledger: SqlQuotaRepository) -> None:
    tokens = await set_quota(ledger, 100)
    await set_quota(ledger, 5, QuotaMeasure.COST_MICROS)
    clock = Clock()
    mine = keeper(ledger, clock)
    with pytest.raises(QuotaExceeded):
        await mine.reserve(ADA, Spend(tokens=90, cost_micros=6))
    await mine.close(seconds=5)
    assert (await ledger.get("acme", tokens.id, clock.now)).remaining == 100


async def test_gateways_share_one_limit(ledger: SqlQuotaRepository) -> None:
    quota = await set_quota(ledger, 1_000)
    clock = Clock()
    gateways = [keeper(ledger, clock, f"gw_{number}") for number in range(4)]
    granted = 0

    async def work(number: int) -> None:
        nonlocal granted
        try:
            reservation = await gateways[number % 4].reserve(ADA, Spend(tokens=10))
        except QuotaExceeded:
            return
        await asyncio.sleep(0)
        reservation.settle(Spend(tokens=10))
        granted += 1

    await asyncio.gather(*(work(number) for number in range(300)))
    for gateway in gateways:
        await gateway.close(seconds=5)
    state = await ledger.get("acme", quota.id, clock.now)
    assert 95 <= granted <= 100
    assert (state.spent, state.held) == (granted * 10, 0)


async def test_what_a_dead_gateway_held_comes_back(ledger: SqlQuotaRepository) -> None:
    await set_quota(ledger, 100)
    clock = Clock()
    await keeper(ledger, clock, "gw_dead").reserve(ADA, Spend(tokens=100))
    living = keeper(ledger, clock, "gw_living")
    with pytest.raises(QuotaExceeded):
        await living.reserve(ADA, Spend(tokens=1))
    clock.pass_seconds(61)
    await living.reserve(ADA, Spend(tokens=100))


async def test_a_lease_in_use_is_renewed(ledger: SqlQuotaRepository) -> None:
    await set_quota(ledger, 100)
    clock = Clock()
    slow, other = keeper(ledger, clock, "gw_slow"), keeper(ledger, clock, "gw_other")
    await slow.reserve(ADA, Spend(tokens=100))
    for _ in range(4):
        clock.pass_seconds(25)
        await slow.report()
    with pytest.raises(QuotaExceeded):
        await other.reserve(ADA, Spend(tokens=1))


async def test_idle_slices_go_back(ledger: SqlQuotaRepository) -> None:
    quota = await set_quota(ledger, 64_000)
    clock = Clock()
    mine = keeper(ledger, clock)
    (await mine.reserve(ADA, Spend(tokens=1))).settle(Spend(tokens=1))
    assert (await ledger.get("acme", quota.id, clock.now)).held == 1_000
    clock.pass_seconds(6)
    await mine.report()
    state = await ledger.get("acme", quota.id, clock.now)
    assert (state.spent, state.held) == (1, 0)


async def test_work_that_costs_more_than_it_held_is_booked_in_full(ledger: SqlQuotaRepository) -> None:
    quota = await set_quota(ledger, 100)
    clock = Clock()
    mine = keeper(ledger, clock)
    (await mine.reserve(ADA, Spend(tokens=10))).settle(Spend(tokens=150))
    await mine.report()
    assert (await ledger.get("acme", quota.id, clock.now)).spent == 150
    with pytest.raises(QuotaExceeded):
        await mine.reserve(ADA, Spend(tokens=1))


async def test_a_new_day_starts_anew(ledger: SqlQuotaRepository) -> None:
    await set_quota(ledger, 100)
    clock = Clock()
    mine = keeper(ledger, clock)
    (await mine.reserve(ADA, Spend(tokens=100))).settle(Spend(tokens=100))
    clock.pass_seconds(12 * 3600)
    await mine.reserve(ADA, Spend(tokens=100))


async def test_others_spend_nothing_of_a_keys_quota(ledger: SqlQuotaRepository) -> None:
    quota = Quota("q", "acme", QuotaSubject.KEY, "key_bob", QuotaPeriod.DAY, QuotaMeasure.TOKENS, 1, 1, utc_now())
    assert not quota.concerns(ADA)
    assert quota.concerns(Principal("acme", "key_bob", frozenset(), frozenset(), ""))
    assert not quota.concerns(Principal("other", "key_bob", frozenset(), frozenset(), ""))


@pytest.mark.parametrize(
    ("period", "name", "seconds"),
    [(QuotaPeriod.DAY, "2026-12-31", 3600.0), (QuotaPeriod.MONTH, "2026-12", 3600.0)],
)
def test_periods_end_with_utcs_days_and_months(period: QuotaPeriod, name: str, seconds: float) -> None:
    now = datetime(2026, 12, 31, 23, tzinfo=UTC)
    assert period_start(period, now) == name
    assert seconds_left(period, now) == seconds


@pytest.mark.parametrize(
    ("usage", "micros"),
    [
        (Usage(1_000_000, 0), 100_500),
        (Usage(0, 1_000_000), 400_500),
        (Usage(1_000_000, 0, cached_tokens=1_000_000), 50_500),
        (Usage(1, 0), 501),
        (Usage(), 500),
    ],
)
def test_cost_is_by_the_price_table_and_rounded_up(usage: Usage, micros: int) -> None:
    table = PriceTable({"tiny": Price(0.1, 0.4, 0.05, 0.0005)})
    assert table.spend("tiny", usage).cost_micros == micros
    assert table.spend("other", usage).cost_micros == 0
    assert PriceTable({"*": Price(1.0)}).spend("other", Usage(7)).cost_micros == 7


class SlowLedger(SqlQuotaRepository):
    """A database that takes its time, as long as the test holds it up."""

    def __init__(self, ledger: SqlQuotaRepository) -> None:
        super().__init__(ledger._database)
        self.free = asyncio.Event()
        self.free.set()
        self.waiting = asyncio.Event()

    async def _held_up(self) -> None:
        self.waiting.set()
        await self.free.wait()

    async def report(self, quota: Quota, start: str, **more: Any) -> None:
        await self._held_up()
        await super().report(quota, start, **more)

    async def lease(self, quota: Quota, start: str, need: int, **more: Any) -> int:
        await self._held_up()
        return await super().lease(quota, start, need, **more)

    @asynccontextmanager
    async def slow(self, work: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
        """Holds up what the work asks of the database, until the end of the block."""
        self.free.clear()
        self.waiting.clear()
        task = asyncio.create_task(work)
        await self.waiting.wait()
        yield task
        self.free.set()
        await asyncio.wait([task])


async def test_who_finds_enough_waits_for_no_report(ledger: SqlQuotaRepository) -> None:
    quota = await set_quota(ledger, 100_000)
    clock, slow = Clock(), SlowLedger(ledger)
    mine = keeper(slow, clock)
    (await mine.reserve(ADA, Spend(tokens=10))).settle(Spend(tokens=10))
    async with slow.slow(mine.report()) as report:
        (await asyncio.wait_for(mine.reserve(ADA, Spend(tokens=10)), 10)).settle(Spend(tokens=7))
        assert not report.done()
    report.result()
    await mine.close(seconds=5)
    state = await ledger.get("acme", quota.id, clock.now)
    assert (state.spent, state.held) == (17, 0)


async def test_work_that_ends_while_a_lease_is_asked_for_gives_back_what_it_held(ledger: SqlQuotaRepository) -> None:
    quota = await set_quota(ledger, 100)
    clock, slow = Clock(), SlowLedger(ledger)
    mine = keeper(slow, clock)
    first = await mine.reserve(ADA, Spend(tokens=50))
    async with slow.slow(mine.reserve(ADA, Spend(tokens=50))) as second:
        first.settle(Spend(tokens=10))
    assert (await mine.reserve(ADA, Spend(tokens=40))) is not None
    second.result().settle(Spend(tokens=50))
    with pytest.raises(QuotaExceeded):
        await mine.reserve(ADA, Spend(tokens=1))
    await mine.report()
    assert (await ledger.get("acme", quota.id, clock.now)).spent == 60


async def test_what_is_taken_while_a_lease_is_asked_for_is_not_granted_twice(ledger: SqlQuotaRepository) -> None:
    await set_quota(ledger, 100)
    clock, slow = Clock(), SlowLedger(ledger)
    mine = keeper(slow, clock)
    (await mine.reserve(ADA, Spend(tokens=60))).settle(Spend())
    async with slow.slow(mine.reserve(ADA, Spend(tokens=80))) as large:
        small = await asyncio.wait_for(mine.reserve(ADA, Spend(tokens=60)), 10)
    with pytest.raises(QuotaExceeded):
        large.result()
    small.settle(Spend(tokens=60))
    assert (await mine.reserve(ADA, Spend(tokens=40))) is not None
