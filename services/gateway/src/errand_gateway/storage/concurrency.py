"""How much runs at once: counted in memory, or in Valkey or Redis for many gateways."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import structlog
import valkey.asyncio as valkey
from errand_common.db import new_id
from errand_common.errors import RateLimited
from errand_common.principal import Principal

from errand_gateway.domain.limits import Slot
from errand_gateway.storage.limits import Fallback

_log = structlog.get_logger(__name__)
_LEASE_SECONDS: Final = 60
_RENEW_SECONDS: Final = 20.0
_RETRY_SECONDS: Final = 1.0

# Time is the server's: gateways' clocks differ. Slots of gateways that died are given back when their lease expires.
_ENTER: Final = """
local clock = redis.call('TIME')
local now = tonumber(clock[1])
for index, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  if redis.call('ZCARD', key) >= tonumber(ARGV[2 + index]) then return index end
end
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + tonumber(ARGV[2]), ARGV[1])
  redis.call('EXPIRE', key, ARGV[2])
end
return 0
"""
_RENEW: Final = """
local now = tonumber(redis.call('TIME')[1])
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + tonumber(ARGV[2]), ARGV[1])
  redis.call('EXPIRE', key, ARGV[2])
end
"""


@dataclass(frozen=True, slots=True)
class ConcurrencyLimits:
    """How much may run at once."""

    per_key: int
    per_tenant: int

    def refused(self, place: int) -> RateLimited:
        """The refusal when the key's (0) or the tenant's (1) places are taken."""
        whose, limit = (("key", self.per_key), ("tenant", self.per_tenant))[place]
        return RateLimited(
            f"{limit} requests of this {whose} are running; wait until one has ended",
            retry_after_seconds=_RETRY_SECONDS,
            limit=str(limit),
        )


class _LocalSlot:
    def __init__(self, running: Counter[tuple[str, str]], subjects: list[tuple[str, str]]) -> None:
        self._running = running
        self._subjects = subjects

    def release(self) -> None:
        """Gives it back, however often that is asked."""
        for subject in self._subjects:
            self._running[subject] -= 1
            if self._running[subject] <= 0:
                del self._running[subject]
        self._subjects = []


class LocalConcurrencyLimiter:
    """ConcurrencyLimiter of this process."""

    def __init__(self, limits: ConcurrencyLimits) -> None:
        self._limits = limits
        self._running: Counter[tuple[str, str]] = Counter()

    async def enter(self, principal: Principal) -> Slot:
        """Takes a place; raises RateLimited when none is free."""
        subjects = [("key", principal.id), ("tenant", principal.tenant_id)]
        bounds = (self._limits.per_key, self._limits.per_tenant)
        for place, (subject, bound) in enumerate(zip(subjects, bounds, strict=True)):
            if self._running[subject] >= bound:
                raise self._limits.refused(place)
        self._running.update(subjects)
        return _LocalSlot(self._running, subjects)


class _SharedSlot:
    def __init__(self, limiter: "ValkeyConcurrencyLimiter", member: str) -> None:
        self._limiter = limiter
        self._member = member

    def release(self) -> None:
        """Gives it back, however often that is asked."""
        self._limiter.leave(self._member)


class ValkeyConcurrencyLimiter:
    """ConcurrencyLimiter of all gateways; `keeping` renews the places that are taken."""

    def __init__(self, pool: valkey.ConnectionPool, limits: ConcurrencyLimits, fallback: Fallback) -> None:
        self._client: Any = valkey.Valkey(connection_pool=pool)
        self._enter = self._client.register_script(_ENTER)
        self._renew = self._client.register_script(_RENEW)
        self._limits = limits
        self._fallback = fallback
        self._local = LocalConcurrencyLimiter(limits)
        self._held: dict[str, list[str]] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    async def enter(self, principal: Principal) -> Slot:
        """Takes a place; raises RateLimited when none is free."""
        taken, slot = await self._fallback.call(lambda: self._shared(principal), lambda: self._locally(principal))
        if slot is None:
            raise self._limits.refused(taken - 1)
        return slot

    async def _shared(self, principal: Principal) -> tuple[int, Slot | None]:
        # The braces keep both sets on one node of a cluster.
        prefix = f"errand:running:{{{principal.tenant_id}}}"
        keys, member = [f"{prefix}:{principal.id}", prefix], new_id("slot")
        arguments: list[str | int] = [member, _LEASE_SECONDS, self._limits.per_key, self._limits.per_tenant]
        taken = int(await self._enter(keys=keys, args=arguments))
        if taken:
            return taken, None
        self._held[member] = keys
        return 0, _SharedSlot(self, member)

    async def _locally(self, principal: Principal) -> tuple[int, Slot | None]:
        return 0, await self._local.enter(principal)

    def leave(self, member: str) -> None:
        """Gives a place back; one that cannot be given back now is free when its lease expires."""
        keys = self._held.pop(member, None)
        if keys is not None:
            task = asyncio.get_running_loop().create_task(self._remove(member, keys))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _remove(self, member: str, keys: list[str]) -> None:
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.zrem(key, member)
                await pipeline.execute()
        except Exception as error:
            _log.warning("slot_not_given_back", error=type(error).__name__)

    @contextlib.asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Renews what is held, until the end of the block."""
        task = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, *self._leaving, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            for member, keys in list(self._held.items()):
                with contextlib.suppress(Exception):
                    await self._renew(keys=keys, args=[member, _LEASE_SECONDS])
