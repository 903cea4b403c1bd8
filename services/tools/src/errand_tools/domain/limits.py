"""Bounds on how many calls of a tool run at once and in a minute, and a breaker for endpoints that are down."""

import asyncio
import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from errand_tools.domain.tools import OutcomeUnknown, ServiceDown, ToolBusy, ToolError


@dataclass(slots=True)
class _Slots:
    semaphore: asyncio.Semaphore
    users: int = 0


class ConcurrencyLimit:
    """At most `running` calls of a key at once, and at most `waiting` more in its queue."""

    def __init__(self, *, running: int, waiting: int) -> None:
        self._running = running
        self._waiting = waiting
        self._slots: dict[Hashable, _Slots] = {}

    @asynccontextmanager
    async def slot(self, key: Hashable, *, wait_seconds: float, running: int = 0) -> AsyncIterator[None]:
        """Holds one place; `running` bounds this key by itself.

        Raises ToolBusy when the queue is full or the wait too long.
        """
        running = min(running or self._running, self._running)
        slots = self._slots.setdefault(key, _Slots(asyncio.Semaphore(running)))
        if slots.users >= running + self._waiting:
            raise ToolBusy("The tool is busy with too many calls; try again later.")
        slots.users += 1
        try:
            await self._acquire(slots, wait_seconds)
            try:
                yield
            finally:
                slots.semaphore.release()
        finally:
            slots.users -= 1
            if not slots.users:
                self._slots.pop(key, None)

    @staticmethod
    async def _acquire(slots: _Slots, wait_seconds: float) -> None:
        # Without a wait there is no timer to pay for.
        if not slots.semaphore.locked():
            await slots.semaphore.acquire()
            return
        try:
            async with asyncio.timeout(wait_seconds):
                await slots.semaphore.acquire()
        except TimeoutError:
            raise ToolBusy("The tool is busy with other calls; try again later.") from None


class RateLimit:
    """At most so many calls of a key in a minute, evenly refilled; a fresh key may use a minute's calls at once."""

    def __init__(self, *, keys: int = 8192, clock: Callable[[], float]) -> None:
        self._keys = keys
        self._clock = clock
        # When a key's bucket will be full again, as of its last call.
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def take(self, key: Hashable, per_minute: int) -> None:
        """Counts one call; 0 a minute is no bound. Raises ToolBusy, which tells when to come again."""
        if not per_minute:
            return
        now, apart = self._clock(), 60 / per_minute
        full_at = max(now, self._full_at.get(key, now)) + apart
        if full_at - now > 60 + apart / 1000:
            raise ToolBusy(
                f"The tool may be called {per_minute} times a minute; try again in {math.ceil(full_at - now - 60)} s."
            )
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._keys:
            self._full_at.popitem(last=False)


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    open_until: float = 0.0
    trying: bool = False


class CircuitBreaker:
    """Refuses calls of a key for a while after a row of failures, then lets one call try."""

    def __init__(
        self,
        *,
        failures: int = 5,
        open_seconds: float = 30.0,
        keys: int = 4096,
        clock: Callable[[], float],
    ) -> None:
        self._failures = failures
        self._open_seconds = open_seconds
        self._keys = keys
        self._clock = clock
        self._circuits: OrderedDict[Hashable, _Circuit] = OrderedDict()

    @property
    def open(self) -> int:
        """Circuits that refuse calls now."""
        now = self._clock()
        return sum(circuit.open_until > now for circuit in list(self._circuits.values()) if self._is_broken(circuit))

    def _is_broken(self, circuit: _Circuit) -> bool:
        return circuit.failures >= self._failures

    @contextmanager
    def guard(self, key: Hashable) -> Iterator[None]:
        """Counts how the block ends. Raises ToolBusy at once while the circuit is open."""
        self._check(key)
        try:
            yield
        except (ServiceDown, OutcomeUnknown):
            self._failed(key)
            raise
        except ToolError:
            # The endpoint answered, if only to say no.
            self._circuits.pop(key, None)
            raise
        except BaseException:
            # The caller went away: that tells nothing of the endpoint.
            self._abandoned(key)
            raise
        self._circuits.pop(key, None)

    def _check(self, key: Hashable) -> None:
        circuit = self._circuits.get(key)
        if circuit is None or not self._is_broken(circuit):
            return
        if circuit.trying or self._clock() < circuit.open_until:
            raise ToolBusy("The service behind this tool keeps failing; do not call it for now.")
        circuit.trying = True

    def _failed(self, key: Hashable) -> None:
        circuit = self._circuits.setdefault(key, _Circuit())
        self._circuits.move_to_end(key)
        circuit.failures += 1
        circuit.trying = False
        circuit.open_until = self._clock() + self._open_seconds
        while len(self._circuits) > self._keys:
            self._circuits.popitem(last=False)

    def _abandoned(self, key: Hashable) -> None:
        circuit = self._circuits.get(key)
        if circuit is not None:
            circuit.trying = False
