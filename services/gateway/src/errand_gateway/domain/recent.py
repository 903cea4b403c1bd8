"""What was looked up a moment ago: who sends a key, what a tenant's quotas are."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Keeps what was looked up for a few seconds; a change in this process is seen at once.

    However many ask at once, it is looked up once; what is asked for again in the second half of its time is
    looked up while the known value is given, so that under load no request waits for it.
    """

    def __init__(
        self,
        load: Callable[[K], Awaitable[V | None]],
        *,
        ttl_seconds: float = 5.0,
        max_entries: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._ttl_seconds = ttl_seconds
        self._max_entries = max_entries
        self._clock = clock
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()
        # By generation too: who asks after a change must not be given what was read before it.
        self._loading: dict[tuple[int, K], asyncio.Task[V | None]] = {}
        self._generation = 0

    async def find(self, key: K) -> V | None:
        """What there is, at most `ttl_seconds` old; raises what looking it up raises."""
        read_at, found = self._entries.get(key, (None, None))
        age = self._ttl_seconds if read_at is None else self._clock() - read_at
        if age >= self._ttl_seconds:
            return await asyncio.shield(self._reading(key))
        if 2 * age >= self._ttl_seconds:
            self._reading(key)
        return found

    def forget(self) -> None:
        """Drops everything: keys, users or tenants were changed."""
        self._generation += 1
        self._entries.clear()

    def _reading(self, key: K) -> asyncio.Task[V | None]:
        """The look-up that goes on, or a new one."""
        flight = (self._generation, key)
        task = self._loading.get(flight)
        if task is None:
            task = self._loading[flight] = asyncio.create_task(self._read(*flight))
            task.add_done_callback(lambda done: self._landed(flight, done))
        return task

    async def _read(self, generation: int, key: K) -> V | None:
        began = self._clock()
        found = await self._load(key)
        if generation == self._generation:
            self._entries.pop(key, None)
            if found is not None:
                self._entries[key] = (began, found)
                if len(self._entries) > self._max_entries:
                    self._entries.popitem(last=False)
        return found

    def _landed(self, flight: tuple[int, K], done: asyncio.Task[V | None]) -> None:
        del self._loading[flight]
        if not done.cancelled():
            # Of a look-up that nobody waits for: the next one that is waited for raises it again.
            done.exception()
