"""Runs as training data, and people's consent to that."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ExampleFilter:
    """Which answered runs are exported; what is left out does not narrow."""

    agent: str = ""
    since: datetime | None = None
    until: datetime | None = None
    approved_only: bool = False
    with_calls_only: bool = False
    limit: int = 0


class ExampleBackend(Protocol):
    """Consents and examples of the agent service."""

    async def set_consent(self, *, training: bool) -> None:
        """Stores whether models may learn from the caller's runs."""
        ...

    async def consent(self) -> bool:
        """Whether models may learn from the caller's runs."""
        ...

    def export(self, wanted: ExampleFilter) -> AsyncIterator[str]:
        """A JSON object on a line for each run."""
        ...
