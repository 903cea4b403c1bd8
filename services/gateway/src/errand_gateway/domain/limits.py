"""How often a caller may call."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LimitDecision:
    """What the limiter says about one request."""

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: float


class RateLimiter(Protocol):
    """Counts requests by key."""

    async def hit(self, key: str) -> LimitDecision:
        """Counts one request."""
        ...
