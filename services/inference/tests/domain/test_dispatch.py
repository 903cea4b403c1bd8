"""The queue in front of an engine: a flood, two tenants, cancellation, deadlines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing

import pytest
from errand_common.errors import DeadlineExceeded, Overloaded
from errand_inference.domain.dispatch import Dispatcher, Wait
from errand_inference.domain.engine import EngineRequest
from errand_inference.domain.scheduler import Priority
from errand_inference.engines.scripted import ScriptedEngine, ScriptRule


def dispatcher(*, slots: int, queue: int, words: int = 3, seconds_per_token: float = 0.0) -> Dispatcher:
    engine = ScriptedEngine([ScriptRule("", " ".join(["word"] * words))], seconds_per_token=seconds_per_token)
    return Dispatcher(engine, slots=slots, queue_capacity=queue)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - the scheduler is pure
            await asyncio.sleep(0)


async def ask(queue: Dispatcher, tenant: str = "a", seconds: float = 60, priority: Priority = Priority.NORMAL) -> int:
    """Tokens of one request."""
    deadline = time.monotonic() + seconds
    run = queue.run(EngineRequest("x", 1000), tenant_id=tenant, priority=priority, deadline=deadline, wait=Wait())
    async with aclosing(run) as deltas:
        return sum([delta.tokens async for delta in deltas])


async def test_of_a_flood_each_is_served_or_refused_and_none_hangs() -> None:
    queue = dispatcher(slots=8, queue=64)
    async with asyncio.timeout(60):
        results = await asyncio.gather(*(ask(queue) for _ in range(500)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, Overloaded)]
    assert len(refused) + results.count(3) == 500
    assert results.count(3) >= 72
    assert all(error.retry_after_seconds > 0 for error in refused)
    assert (queue.scheduler.queued, queue.scheduler.running) == (0, 0)
    assert await ask(queue) == 3


async def test_a_flood_with_short_deadlines_leaves_nothing_behind() -> None:
    queue = dispatcher(slots=2, queue=64, seconds_per_token=0.005)
    results = await asyncio.gather(*(ask(queue, seconds=0.05) for _ in range(200)), return_exceptions=True)
    assert {type(result) for result in results} <= {int, Overloaded, DeadlineExceeded}
    assert any(isinstance(result, DeadlineExceeded) for result in results)
    assert (queue.scheduler.queued, queue.scheduler.running) == (0, 0)
    assert await ask(queue) == 3


async def test_one_request_beside_two_hundred_waits_for_one_batch_at_most() -> None:
    queue = dispatcher(slots=4, queue=1000)
    order: list[str] = []

    async def noted(tenant: str) -> None:
        await ask(queue, tenant)
        order.append(tenant)

    crowd = [asyncio.create_task(noted("crowd")) for _ in range(200)]
    await until(lambda: queue.scheduler.queued >= 190)
    before = len(order)
    await noted("alone")
    assert order.index("alone") - before <= 2 * 4
    await asyncio.gather(*crowd)


@pytest.mark.parametrize("running", [True, False])
async def test_a_cancelled_request_gives_its_place_to_the_next(running: bool) -> None:
    queue = dispatcher(slots=1, queue=4, words=1000, seconds_per_token=0.01)
    holder = asyncio.create_task(ask(queue))
    waiting = asyncio.create_task(ask(queue))
    await until(lambda: queue.scheduler.running and queue.scheduler.queued)
    (holder if running else waiting).cancel()
    await until(lambda: not queue.scheduler.queued)
    assert queue.scheduler.running == 1
    for task in (holder, waiting):
        task.cancel()
    await asyncio.gather(holder, waiting, return_exceptions=True)
    assert queue.scheduler.running == 0


async def test_who_waits_beyond_the_deadline_never_starts() -> None:
    queue = dispatcher(slots=1, queue=4, words=200, seconds_per_token=0.01)
    holder = asyncio.create_task(ask(queue))
    await until(lambda: queue.scheduler.running)
    asked = queue.engine.asked  # type: ignore[attr-defined]
    with pytest.raises(DeadlineExceeded):
        await ask(queue, seconds=0.02)
    holder.cancel()
    await asyncio.gather(holder, return_exceptions=True)
    assert queue.engine.asked <= asked + 1  # type: ignore[attr-defined]
    assert queue.stats.finished == 1
