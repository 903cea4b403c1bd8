"""Whether the gateway can do its work, component by component."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class ComponentState(StrEnum):
    """What a probe found."""

    READY = "ready"
    AWAY = "away"


@dataclass(frozen=True, slots=True)
class Component:
    """One component as last probed."""

    state: ComponentState
    latency_ms: float
    needed: bool


@dataclass(frozen=True, slots=True)
class Readiness:
    """All components; ready when every needed one is."""

    ready: bool
    components: Mapping[str, Component]


@dataclass(frozen=True, slots=True)
class Probe:
    """How a component is asked; `ask` returns False or raises when it is away."""

    name: str
    ask: Callable[[], Awaitable[bool]]
    needed: bool = True


class ReadinessMonitor:
    """Probes components, at most once in `cache_seconds` however often it is asked."""

    def __init__(
        self,
        probes: Sequence[Probe],
        *,
        cache_seconds: float = 1.0,
        probe_seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._probes = tuple(probes)
        self._cache_seconds = cache_seconds
        self._probe_seconds = probe_seconds
        self._clock = clock
        self._lock = asyncio.Lock()
        self._last: tuple[float, Mapping[str, Component]] | None = None
        self.draining = False

    async def check(self) -> Readiness:
        """What is ready now; while draining nothing is."""
        async with self._lock:
            if self._last is None or self._clock() - self._last[0] >= self._cache_seconds:
                found = await asyncio.gather(*(self._ask(probe) for probe in self._probes))
                names = (probe.name for probe in self._probes)
                self._last = (self._clock(), dict(zip(names, found, strict=True)))
        components = self._last[1]
        complete = all(item.state is ComponentState.READY for item in components.values() if item.needed)
        return Readiness(complete and not self.draining, components)

    async def _ask(self, probe: Probe) -> Component:
        started = self._clock()
        try:
            async with asyncio.timeout(self._probe_seconds):
                ready = await probe.ask()
        except Exception:
            ready = False
        milliseconds = round((self._clock() - started) * 1000, 3)
        state = ComponentState.READY if ready else ComponentState.AWAY
        return Component(state, milliseconds, probe.needed)
