"""Limits of several gateways on one real Redis, and what holds while it is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
import valkey.asyncio as valkey
from errand_common.errors import RateLimited, Unavailable
from errand_common.testing.keys import free_port, principal
from errand_gateway.domain.admission import Admission
from errand_gateway.domain.quota_keeper import QuotaKeeper, Reservation
from errand_gateway.domain.quotas import Spend
from errand_gateway.storage import limits
from errand_gateway.storage.concurrency import ConcurrencyLimits, LocalConcurrencyLimiter, ValkeyConcurrencyLimiter
from errand_gateway.storage.limits import (
    Fallback,
    LimitStorage,
    OnFailure,
    WindowRateLimiter,
    WindowTokenLimiter,
    limit_storage,
)
from limits.aio.storage import MemoryStorage

ADA, BOB = principal("acme", "key_ada"), principal("acme", "key_bob")
EVE = principal("other", "key_eve")


@pytest_asyncio.fixture(loop_scope="session", params=["redis", "valkey"])
async def storage(
    request: pytest.FixtureRequest, redis_server: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LimitStorage]:
    """It as storage, by either name, empty; on a busy machine it is not away for being slow."""
    monkeypatch.setattr(limits, "_STORAGE_SECONDS", 30.0)
    async with limit_storage(f"{request.param}://{redis_server}/0") as opened:
        await valkey.Valkey(connection_pool=opened.pool).flushall()
        yield opened


@pytest_asyncio.fixture(loop_scope="session")
async def away() -> AsyncIterator[LimitStorage]:
    """A storage where nothing listens."""
    async with limit_storage(f"valkey://127.0.0.1:{free_port()}/0") as opened:
        yield opened


def limiter(storage: LimitStorage, *, on_failure: OnFailure = "refuse", tenant: str | None = None) -> WindowRateLimiter:
    """One gateway's limiter."""
    return WindowRateLimiter("5/minute", tenant, storage.windows, Fallback(on_failure))


async def test_gateways_count_a_key_together(storage: LimitStorage) -> None:
    gateways = [limiter(storage) for _ in range(4)]
    decisions = await asyncio.gather(*(gateways[n % 4].hit(ADA) for n in range(40)))
    assert sum(decision.allowed for decision in decisions) == 5
    refused = next(decision for decision in decisions if not decision.allowed)
    assert (refused.limit, refused.remaining, refused.scope) == (5, 0, "key")
    assert 0 < refused.reset_seconds <= 120
    assert (await gateways[0].hit(BOB)).allowed


async def test_keys_of_a_tenant_share_its_limit(storage: LimitStorage) -> None:
    gateway = limiter(storage, tenant="7/minute")
    for _ in range(5):
        assert (await gateway.hit(ADA)).allowed
    assert (await gateway.hit(BOB)).remaining == 1
    await gateway.hit(BOB)
    refused = await gateway.hit(BOB)
    assert (refused.allowed, refused.scope, refused.limit) == (False, "tenant", 7)
    assert (await gateway.hit(EVE)).allowed


async def test_without_the_storage_each_gateway_counts_alone(away: LimitStorage) -> None:
    gateway = limiter(away, on_failure="local")
    decisions = [await gateway.hit(ADA) for _ in range(7)]
    assert [decision.allowed for decision in decisions] == [True] * 5 + [False] * 2


async def test_without_the_storage_requests_are_refused_if_the_operator_wants(away: LimitStorage) -> None:
    gateway = limiter(away, on_failure="refuse")
    with pytest.raises(Unavailable):
        await gateway.hit(ADA)


async def test_a_storage_that_comes_back_counts_again() -> None:
    now = [0.0]
    fallback = Fallback("local", clock=lambda: now[0])

    async def fails() -> str:
        raise ConnectionError

    async def answer(text: str) -> str:
        return text

    assert await fallback.call(fails, lambda: answer("local")) == "local"
    assert await fallback.call(lambda: answer("shared"), lambda: answer("local")) == "local"
    now[0] = 1.5
    assert await fallback.call(lambda: answer("shared"), lambda: answer("local")) == "shared"


async def test_tokens_are_counted_when_used_and_used_up_by_the_last(storage: LimitStorage) -> None:
    tokens = WindowTokenLimiter(None, "1000/minute", storage.windows, Fallback("refuse"))
    await tokens.spend(ADA, 600)
    left = await tokens.look(BOB)
    assert left is not None
    assert (left.remaining, left.scope) == (400, "tenant")
    await tokens.spend(BOB, 700)
    assert (await tokens.look(ADA)).remaining == 0  # type: ignore[union-attr]
    other = await tokens.look(EVE)
    assert other is not None
    assert other.remaining == 1000


async def test_places_are_shared_by_gateways_and_given_back(storage: LimitStorage) -> None:
    limits = ConcurrencyLimits(per_key=3, per_tenant=4)
    pool = storage.pool
    assert pool is not None
    async with AsyncExitStack() as stack:
        gateways = [ValkeyConcurrencyLimiter(pool, limits, Fallback("refuse")) for _ in range(2)]
        for gateway in gateways:
            await stack.enter_async_context(gateway.keeping())
        slots = [await gateways[n % 2].enter(ADA) for n in range(3)]
        with pytest.raises(RateLimited, match="this key"):
            await gateways[1].enter(ADA)
        slots.append(await gateways[0].enter(BOB))
        with pytest.raises(RateLimited, match="this tenant"):
            await gateways[1].enter(BOB)
        await gateways[1].enter(EVE)
        for slot in slots:
            slot.release()
            slot.release()
        async with asyncio.timeout(10):
            while True:
                try:
                    await gateways[1].enter(BOB)
                    break
                except RateLimited:
                    await asyncio.sleep(0.01)


async def test_places_without_the_storage(away: LimitStorage) -> None:
    limits = ConcurrencyLimits(per_key=1, per_tenant=2)
    pool = away.pool
    assert pool is not None
    gateway = ValkeyConcurrencyLimiter(pool, limits, Fallback("local"))
    async with gateway.keeping():
        slot = await gateway.enter(ADA)
        with pytest.raises(RateLimited):
            await gateway.enter(ADA)
        slot.release()
        await gateway.enter(ADA)


class NoQuota(QuotaKeeper):
    """A keeper without quotas, which fails when told."""

    def __init__(self) -> None:
        self.fails = False

    async def reserve(self, principal: object, bound: Spend) -> Reservation:
        """Holds nothing."""
        if self.fails:
            raise Unavailable("database")
        return Reservation([], lambda: 0.0)


async def test_work_that_is_not_admitted_holds_nothing() -> None:
    running = LocalConcurrencyLimiter(ConcurrencyLimits(per_key=1, per_tenant=1))
    tokens = WindowTokenLimiter("100/minute", None, MemoryStorage(), Fallback("local"))
    keeper = NoQuota()
    admission = Admission(keeper, tokens, running)
    keeper.fails = True
    with pytest.raises(Unavailable):
        await admission.admit(ADA, Spend(1))
    keeper.fails = False
    permit = await admission.admit(ADA, Spend(1))
    with pytest.raises(RateLimited, match="running"):
        await admission.admit(ADA, Spend(1))
    permit.settle(Spend(100))
    await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    with pytest.raises(RateLimited, match="tokens"):
        await admission.admit(ADA, Spend(1))
