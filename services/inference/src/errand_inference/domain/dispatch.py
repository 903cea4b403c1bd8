"""Runs requests on an engine in the order that the scheduler decides."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from errand_common.errors import DeadlineExceeded

from errand_inference.domain.engine import Delta, Engine, EngineRequest
from errand_inference.domain.reliability import CircuitBreaker
from errand_inference.domain.scheduler import Priority, Scheduler, Ticket


@dataclass(slots=True)
class DispatchStats:
    """Counts since the start."""

    finished: int = 0
    refused: int = 0
    generated_tokens: int = 0


@dataclass(slots=True)
class Wait:
    """How long a request waited for its slot, once it has one."""

    waited_seconds: float = 0.0


class Dispatcher:
    """The queue in front of one engine, which serves one model."""

    def __init__(self, engine: Engine, *, slots: int, queue_capacity: int, model: str = "") -> None:
        self.engine, self.model = engine, model
        self.breaker = CircuitBreaker()
        self.scheduler = Scheduler(slots, queue_capacity)
        self.stats = DispatchStats()
        self._turns: dict[str, asyncio.Future[None]] = {}
        self._numbers = itertools.count()
        self._recent: deque[tuple[float, int]] = deque(maxlen=10_000)

    async def run(
        self, request: EngineRequest, *, tenant_id: str, priority: Priority, deadline: float, wait: Wait
    ) -> AsyncGenerator[Delta, None]:
        """Waits for a slot, then yields the engine's deltas.

        Raises Overloaded when the queue is full, and DeadlineExceeded when `deadline` (of
        `time.monotonic`) passes before the start. Closing the iterator frees the slot.
        """
        ticket = Ticket(str(next(self._numbers)), tenant_id, priority, deadline, float(request.max_tokens))
        asked = time.monotonic()
        await self._wait_for_turn(ticket)
        wait.waited_seconds = time.monotonic() - asked
        try:
            async with aclosing(self.engine.generate(request)) as deltas:
                async for delta in deltas:
                    self._count(delta)
                    yield delta
        finally:
            self.scheduler.finish(ticket.id, time.monotonic())
            self.stats.finished += 1
            self._start_next()

    async def _wait_for_turn(self, ticket: Ticket) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self.scheduler.submit(ticket, time.monotonic())
        except Exception:
            self.stats.refused += 1
            raise
        self._turns[ticket.id] = turn
        self._start_next()
        has_started = False
        try:
            async with asyncio.timeout(max(0.0, ticket.deadline - time.monotonic())):
                await turn
            # Not by the future: it may be done, and the caller cancelled before it could go on.
            has_started = True
        except TimeoutError:
            raise DeadlineExceeded("The request waited for the model until its deadline.") from None
        finally:
            self._turns.pop(ticket.id, None)
            if not has_started:
                self._give_up(ticket)

    def _give_up(self, ticket: Ticket) -> None:
        """The caller is gone: out of the queue, or out of the slot it was just given."""
        if not self.scheduler.cancel(ticket.id):
            self.scheduler.finish(ticket.id, time.monotonic())
            self._start_next()

    def _start_next(self) -> None:
        plan = self.scheduler.plan(time.monotonic())
        for ticket in plan.start:
            turn = self._turns.get(ticket.id)
            if turn is None or turn.done():
                self.scheduler.finish(ticket.id, time.monotonic())
            else:
                turn.set_result(None)
        for ticket in plan.expired:
            turn = self._turns.get(ticket.id)
            if turn is not None and not turn.done():
                turn.set_exception(DeadlineExceeded("The request waited for the model until its deadline."))

    def _count(self, delta: Delta) -> None:
        self.stats.generated_tokens += delta.tokens
        self._recent.append((time.monotonic(), delta.tokens))

    def tokens_per_second(self, window_seconds: float = 30.0) -> float:
        """Generated tokens per second over the last `window_seconds`."""
        since = time.monotonic() - window_seconds
        return sum(tokens for at, tokens in self._recent if at >= since) / window_seconds
