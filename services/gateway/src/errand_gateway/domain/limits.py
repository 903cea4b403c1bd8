"""How often a caller may call, how much at once, and how many tokens a minute."""

from dataclasses import dataclass
from typing import Protocol

from errand_common.principal import Principal


@dataclass(frozen=True, slots=True)
class LimitDecision:
    """What a limit says about one request; `scope` names whose limit it is."""

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: float
    scope: str = "key"


def tightest(decisions: list[LimitDecision]) -> LimitDecision:
    """The decision that a caller is told: a refusal, else the one with the least left."""
    return min(decisions, key=lambda each: (each.allowed, each.remaining))


class RateLimiter(Protocol):
    """Counts requests by key and by tenant."""

    async def hit(self, principal: Principal) -> LimitDecision:
        """Counts one request; raises Unavailable when that cannot be done and the operator wants it refused."""
        ...


class TokenLimiter(Protocol):
    """Counts tokens by key and by tenant."""

    async def look(self, principal: Principal) -> LimitDecision | None:
        """What is left now; None without a limit."""
        ...

    async def spend(self, principal: Principal, tokens: int) -> None:
        """Counts tokens that were used; those beyond the limit count too."""
        ...


class Slot(Protocol):
    """A place among what runs at once."""

    def release(self) -> None:
        """Gives it back, however often that is asked."""
        ...


class ConcurrencyLimiter(Protocol):
    """Counts what runs at once by key and by tenant."""

    async def enter(self, principal: Principal) -> Slot:
        """Takes a place; raises RateLimited when none is free."""
        ...
