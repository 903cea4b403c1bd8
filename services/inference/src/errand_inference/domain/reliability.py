"""What is done about a model that fails: ask it again, ask another, or say so.

Pure: the caller owns the clock and does the waiting.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, Protocol, TypeVar

from errand_common.errors import ErrandError, ModelUnavailable, Overloaded, RateLimited, Unavailable


class Reaction(Enum):
    """Who is asked next."""

    AGAIN = "again"
    ANOTHER = "another"
    NOBODY = "nobody"


# Whatever is not here is the request's own fault or the end of its time: it would fail everywhere.
_REACTIONS: tuple[tuple[type[ErrandError], Reaction], ...] = (
    (Unavailable, Reaction.AGAIN),
    (RateLimited, Reaction.AGAIN),
    (ModelUnavailable, Reaction.ANOTHER),
    (Overloaded, Reaction.ANOTHER),
)


def reaction_to(error: ErrandError) -> Reaction:
    """What is done about an error."""
    return next((reaction for kind, reaction in _REACTIONS if isinstance(error, kind)), Reaction.NOBODY)


@dataclass(frozen=True, slots=True)
class Reliability:
    """`attempts` of each model in all, with pauses that double from `pause_seconds`; the longest answer."""

    attempts: int = 3
    pause_seconds: float = 1.0
    most_characters: int = 50_000


@dataclass(slots=True)
class CircuitBreaker:
    """Open after `failures` in a row: then one request in `open_seconds` may try whether it works again."""

    # Where one attempt in five fails by chance, five in a row come every 4,000 attempts, eight every 400,000.
    failures: int = 8
    open_seconds: float = 30.0
    _in_a_row: int = 0
    _next_try: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether requests are kept away."""
        return self._in_a_row >= self.failures

    def allows(self, now: float) -> bool:
        """Whether a request may be sent; when open, asking counts as the one try."""
        if not self.is_open:
            return True
        if now < self._next_try:
            return False
        self._next_try = now + self.open_seconds
        return True

    def half_open(self) -> None:
        """Lets the next request try at once: there are signs that it works again."""
        self._next_try = 0.0

    def succeeded(self) -> None:
        """Closes it."""
        self._in_a_row = 0

    def failed(self, now: float) -> None:
        """Counts a failure that another request would have met too."""
        self._in_a_row += 1
        if self.is_open:
            self._next_try = now + self.open_seconds


class Guarded(Protocol):
    """Something with a breaker."""

    breaker: CircuitBreaker


Target = TypeVar("Target", bound=Guarded)


@dataclass(slots=True)
class Course(Generic[Target]):
    """The way of one request over its model and the ones to fall back to."""

    targets: Sequence[Target]
    policy: Reliability
    _at: int = 0
    _tried: int = 0
    _last: ErrandError | None = None
    _random: random.Random = field(default_factory=random.Random)

    def next(self, now: float) -> Target:
        """Who is asked now; raises the last failure, or Unavailable, when nobody is left."""
        while self._at < len(self.targets):
            target = self.targets[self._at]
            if target.breaker.allows(now):
                return target
            self._leave()
        raise self._last or Unavailable(
            "model", "The model failed several times in a row and is left alone for a while; try again later."
        )

    def failed(self, error: ErrandError) -> float:
        """Notes a failure of who was asked; seconds to wait before the next is. Raises it when nobody is left."""
        self._last = error
        self._tried += 1
        if reaction_to(error) is Reaction.AGAIN and self._tried < self.policy.attempts:
            return self._pause(error)
        self._leave()
        if self._at == len(self.targets):
            raise error
        return 0.0

    def _leave(self) -> None:
        self._at, self._tried = self._at + 1, 0

    def _pause(self, error: ErrandError) -> float:
        """Doubling, with a jitter that parts those who failed together; as long as a provider asks for."""
        pause: float = self.policy.pause_seconds * 2 ** (self._tried - 1) * self._random.uniform(0.5, 1.0)
        return max(pause, error.retry_after_seconds) if isinstance(error, RateLimited) else pause
