"""Rate limits by the limits library: in memory, or in Redis or Valkey for many gateways."""

import time
from typing import Literal

import structlog
from errand_common.errors import Unavailable
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.storage import storage_from_string

from errand_gateway.domain.limits import LimitDecision

_log = structlog.get_logger(__name__)


class WindowRateLimiter:
    """A sliding window over each key's requests.

    While the storage is away, `on_failure` decides: "local" counts in this process, "refuse" raises
    Unavailable.
    """

    def __init__(self, rate: str, storage: Storage, *, on_failure: Literal["local", "refuse"]) -> None:
        self._item: RateLimitItem = parse(rate)
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._local = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._on_failure = on_failure

    async def hit(self, key: str) -> LimitDecision:
        """Counts one request."""
        try:
            return await self._hit(self._limiter, key)
        except Exception as error:
            if self._on_failure == "refuse":
                raise Unavailable("rate-limit storage") from error
            _log.warning("rate_limit_storage_away", error=type(error).__name__)
            return await self._hit(self._local, key)

    async def _hit(self, limiter: SlidingWindowCounterRateLimiter, key: str) -> LimitDecision:
        allowed = await limiter.hit(self._item, key)
        window = await limiter.get_window_stats(self._item, key)
        reset = max(0.0, window.reset_time - time.time())
        return LimitDecision(allowed, self._item.amount, max(0, window.remaining), reset)


def rate_limit_storage(url: str) -> Storage:
    """The storage behind a URL (memory://, redis://, valkey://)."""
    storage = storage_from_string(f"async+{url}")
    if not isinstance(storage, Storage):
        raise TypeError(f"{url.split(':', maxsplit=1)[0]} offers no asynchronous rate-limit storage")
    return storage
