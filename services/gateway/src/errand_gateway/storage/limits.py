"""Rate limits by the limits library: in memory, or in Valkey or Redis for many gateways."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import structlog
import valkey.asyncio as valkey
from errand_common.errors import RateLimited, Unavailable
from errand_common.principal import Principal
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from errand_gateway.domain.limits import LimitDecision, tightest

T = TypeVar("T")
OnFailure = Literal["local", "refuse"]

_log = structlog.get_logger(__name__)
# How long a request waits for the storage at most.
_STORAGE_SECONDS: Final = 0.5
_CONNECTIONS: Final = 64
_RETRY_SECONDS: Final = 1.0


class Fallback:
    """Decides what happens while the storage of many gateways is away.

    "local" counts in this process alone, "refuse" raises Unavailable. A storage that failed is left alone for
    a second, so that requests do not wait for it one after the other.
    """

    def __init__(self, on_failure: OnFailure, clock: Callable[[], float] = time.monotonic) -> None:
        self._on_failure = on_failure
        self._clock = clock
        self._away_until = float("-inf")

    async def call(self, shared: Callable[[], Awaitable[T]], local: Callable[[], Awaitable[T]]) -> T:
        """What the shared storage says, or what is said without it."""
        if self._clock() >= self._away_until:
            try:
                return await shared()
            except Exception as error:
                self._away_until = self._clock() + _RETRY_SECONDS
                _log.warning("limit_storage_away", error=type(error).__name__)
        if self._on_failure == "refuse":
            raise Unavailable("rate-limit storage")
        return await local()


class _Window:
    """A sliding window of one rate, in the shared storage or here."""

    def __init__(self, rate: str, storage: Storage, fallback: Fallback, name: str) -> None:
        self._item: RateLimitItem = parse(rate)
        self._shared = SlidingWindowCounterRateLimiter(storage)
        self._local = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._fallback = fallback
        self._name = name
        self._scope = name.split("-", maxsplit=1)[0]

    async def hit(self, subject: str, cost: int = 1) -> LimitDecision:
        """Counts; a hit that does not fit is not counted."""
        return await self._fallback.call(
            lambda: self._hit(self._shared, subject, cost), lambda: self._hit(self._local, subject, cost)
        )

    async def look(self, subject: str) -> LimitDecision:
        """What is left."""
        return await self._fallback.call(
            lambda: self._look(self._shared, subject, allowed=True),
            lambda: self._look(self._local, subject, allowed=True),
        )

    async def _hit(self, limiter: SlidingWindowCounterRateLimiter, subject: str, cost: int) -> LimitDecision:
        allowed = await limiter.hit(self._item, self._name, subject, cost=cost)
        return await self._look(limiter, subject, allowed=allowed)

    async def _look(self, limiter: SlidingWindowCounterRateLimiter, subject: str, *, allowed: bool) -> LimitDecision:
        window = await limiter.get_window_stats(self._item, self._name, subject)
        reset = max(0.0, window.reset_time - time.time())
        return LimitDecision(allowed, self._item.amount, max(0, window.remaining), reset, self._scope)

    @property
    def amount(self) -> int:
        """What fits into the window."""
        return self._item.amount


class WindowRateLimiter:
    """RateLimiter on sliding windows: one a key, and one a tenant when that has a limit."""

    def __init__(self, key_rate: str, tenant_rate: str | None, storage: Storage, fallback: Fallback) -> None:
        self._key = _Window(key_rate, storage, fallback, "key-requests")
        self._tenant = _Window(tenant_rate, storage, fallback, "tenant-requests") if tenant_rate else None

    async def hit(self, principal: Principal) -> LimitDecision:
        """Counts one request; raises Unavailable when that cannot be done and the operator wants it refused."""
        if self._tenant is None:
            return await self._key.hit(principal.id)
        return tightest(
            [*await asyncio.gather(self._key.hit(principal.id), self._tenant.hit(principal.tenant_id))],
        )


class WindowTokenLimiter:
    """TokenLimiter on sliding windows, of which none, one or both have a limit."""

    def __init__(self, key_rate: str | None, tenant_rate: str | None, storage: Storage, fallback: Fallback) -> None:
        self._key = _Window(key_rate, storage, fallback, "key-tokens") if key_rate else None
        self._tenant = _Window(tenant_rate, storage, fallback, "tenant-tokens") if tenant_rate else None

    async def look(self, principal: Principal) -> LimitDecision | None:
        """What is left now; None without a limit."""
        decisions = [await window.look(subject) for window, subject in self._windows(principal)]
        return tightest(decisions) if decisions else None

    async def spend(self, principal: Principal, tokens: int) -> None:
        """Counts tokens that were used; more than are left use up what is."""
        for window, subject in self._windows(principal):
            if not (await window.hit(subject, min(tokens, window.amount))).allowed:
                left = (await window.look(subject)).remaining
                if left:
                    await window.hit(subject, left)

    def _windows(self, principal: Principal) -> list[tuple[_Window, str]]:
        found = ((self._key, principal.id), (self._tenant, principal.tenant_id))
        return [(window, subject) for window, subject in found if window is not None]


class WindowLoginThrottle:
    """LoginThrottle on two windows: attempts at one account, and attempts from one address."""

    def __init__(self, account_rate: str, address_rate: str, storage: Storage, fallback: Fallback) -> None:
        self._account = _Window(account_rate, storage, fallback, "account-logins")
        self._address = _Window(address_rate, storage, fallback, "address-logins")

    async def check(self, account: str, address: str) -> None:
        """Counts an attempt; raises RateLimited after too many."""
        decision = tightest([await self._account.hit(account), await self._address.hit(address)])
        if not decision.allowed:
            raise RateLimited(
                f"too many attempts to log in by this {decision.scope}; wait",
                retry_after_seconds=decision.reset_seconds,
                limit=str(decision.limit),
            )


@dataclass(frozen=True, slots=True)
class LimitStorage:
    """Where limits are counted; `pool` is None in memory."""

    windows: Storage
    pool: valkey.ConnectionPool | None

    async def answers(self) -> bool:
        """Whether the server behind it does; raises when it cannot be reached."""
        return self.pool is None or bool(await valkey.Valkey(connection_pool=self.pool).ping())


@asynccontextmanager
async def limit_storage(url: str) -> AsyncIterator[LimitStorage]:
    """The storage behind a URL (memory://, redis://, valkey://), until the end of the block."""
    if url.startswith("memory"):
        yield LimitStorage(MemoryStorage(), None)
        return
    pool: Any = valkey.BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=_STORAGE_SECONDS,
        socket_timeout=_STORAGE_SECONDS,
        socket_connect_timeout=_STORAGE_SECONDS,
    )
    # One client for both: it speaks to Redis as to Valkey.
    windows = RedisStorage(f"async+{url}", implementation="valkey", connection_pool=pool)
    try:
        yield LimitStorage(windows, pool)
    finally:
        await pool.aclose()
