"""How long things are kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Retention:
    """Days since things were last used, 0 for ever; `swept_at` is when it was last seen to."""

    conversation_days: int = 0
    workflow_run_days: int = 0
    fact_days: int = 0
    swept_at: datetime | None = None

    @property
    def is_for_ever(self) -> bool:
        """Whether nothing is ever deleted."""
        return not (self.conversation_days or self.workflow_run_days or self.fact_days)


def cutoff(now: datetime, days: int) -> datetime | None:
    """What was last used before this moment is deleted; None for nothing."""
    return now - timedelta(days=days) if days else None
