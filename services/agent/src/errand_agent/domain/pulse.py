"""Whether a replica lives, by clocks that nobody sets: what it may tell, judge and do."""

from __future__ import annotations

from dataclasses import dataclass

BEAT_SECONDS = 2.0
DEAD_AFTER_SECONDS = 8.0
# A loop that was kept from running this long does nothing for its runs: others shall have them.
STALLED_AFTER_SECONDS = 30.0
# Starting loads and migrates, and may have to share a processor with many others that start.
STARTING_SECONDS = 180.0


@dataclass(slots=True)
class Pulse:
    """A replica's own measure; all times are of the same monotonic clock, in seconds."""

    progress_at: float
    is_started: bool = False
    dead_after: float = DEAD_AFTER_SECONDS
    has_left: bool = False
    _beaten_at: float = float("-inf")
    _steady_since: float = float("inf")

    def may_beat(self, now: float) -> bool:
        """Whether its event loop makes progress, so that it may call itself alive."""
        return now - self.progress_at <= (STALLED_AFTER_SECONDS if self.is_started else STARTING_SECONDS)

    def beaten(self, asked_at: float) -> None:
        """A beat was stored that was asked for at this time."""
        if asked_at - self._beaten_at > self.dead_after:
            self._steady_since = asked_at
        self._beaten_at = asked_at

    def may_judge(self, now: float) -> bool:
        """Whether others that are silent are dead.

        When the database was away all are silent: who comes back first gives the others time to beat.
        """
        return self.is_started and self.holds(now) and now - self._steady_since >= self.dead_after

    def holds(self, now: float) -> bool:
        """Whether nobody can have taken over yet, so that its runs may go on."""
        return not self.has_left and now - self._beaten_at < self.dead_after
