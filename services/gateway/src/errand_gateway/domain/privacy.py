"""How long things are kept; what is kept of a person, and its erasure."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Retention:
    """Days since things were last used, 0 for ever; `swept_at` is when it was last seen to."""

    conversation_days: int = 0
    workflow_run_days: int = 0
    fact_days: int = 0
    swept_at: datetime | None = None


class PrivacyBackend(Protocol):
    """Privacy in the agent service. An empty `principal_id` is the caller."""

    async def retention(self) -> Retention:
        """What is in force."""
        ...

    async def set_retention(self, retention: Retention) -> Retention:
        """Replaces what is in force."""
        ...

    def export_person(self, principal_id: str) -> AsyncIterator[str]:
        """A JSON object on a line for each row."""
        ...

    async def erase_person(self, principal_id: str) -> Mapping[str, int]:
        """Rows that were deleted, by table."""
        ...

    def export_conversation(self, conversation_id: str) -> AsyncIterator[str]:
        """A JSON object on a line for each row."""
        ...
