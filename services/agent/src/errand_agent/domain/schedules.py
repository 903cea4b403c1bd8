"""Messages that are sent to an agent again and again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from errand_agent.domain.runs import Priority

MOST_SCHEDULES = 100


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule; the times are read in `time_zone`, UTC when empty."""

    name: str
    cron: str
    message: str
    time_zone: str = ""
    agent: str = ""
    conversation_id: str = ""
    priority: Priority = Priority.AT_ONCE
    paused: bool = False
    next_at: datetime | None = None
    last_run_id: str = ""
    last_error: str = ""
    principal_id: str = ""
