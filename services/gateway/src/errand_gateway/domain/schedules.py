"""Messages that are sent to an agent again and again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from errand_gateway.domain.resources import RunPriority


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule; `last_error` says why its last time began no run."""

    name: str
    cron: str
    message: str
    time_zone: str = ""
    agent: str = ""
    conversation_id: str = ""
    priority: RunPriority = RunPriority.AT_ONCE
    paused: bool = False
    next_at: datetime | None = None
    last_run_id: str = ""
    last_error: str = ""
    principal_id: str = ""


class ScheduleBackend(Protocol):
    """Schedules of the agent service."""

    async def put_schedule(self, schedule: Schedule) -> Schedule:
        """Makes or replaces a schedule of the caller."""
        ...

    async def get_schedule(self, name: str) -> Schedule:
        """One schedule."""
        ...

    async def list_schedules(self) -> Sequence[Schedule]:
        """The schedules by name."""
        ...

    async def delete_schedule(self, name: str) -> None:
        """Removes a schedule."""
        ...
