"""Who is told what a run does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from errand_agent.domain.context import Plan
from errand_agent.domain.runs import StepKind


class RunObserver(Protocol):
    """Is told what a run does, for spans and metrics."""

    def step(
        self, kind: StepKind, key: str, attributes: Mapping[str, Any]
    ) -> AbstractContextManager[Callable[[Any], None]]:
        """Goes around one step; what it gives is called with the step's result.

        `key` names the step among those of all runs; a step that a crash interrupted has it again.
        """
        ...

    def waiting(self, key: str) -> AbstractContextManager[None]:
        """Goes around a wait for people, which may take days; `key` as that of a step."""
        ...

    def citations_removed(self, count: int) -> None:
        """Citations of sources that were not given."""
        ...

    def context(self, plan: Plan, *, summarised: bool) -> None:
        """How a run's context was filled."""
        ...
