"""Agents: what one is told, what it may use, where it stops."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from errand_common.errors import InvalidArgument

from errand_agent.domain.runs import Budget, Limits

DEFAULT_AGENT = "default"
BUILTIN_TOOLS = (
    "calculator",
    "convert_units",
    "current_time",
    "date_difference",
    "run_python",
    "text_statistics",
    "search_knowledge",
    "http_get",
)
# More confuse a small model.
SHOWN_TOOLS = 16
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Agent:
    """A named definition; every save makes a new version. Limits of 0 take the defaults."""

    name: str
    description: str = ""
    instructions: str = ""
    model: str = ""
    tools: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()
    max_steps: int = 0
    max_tokens: int = 0
    max_seconds: int = 0
    max_errors: int = 0
    version: int = 1
    max_cost_micros: int = 0
    max_shown_tools: int = 0
    agents: tuple[str, ...] = ()
    fallback_models: tuple[str, ...] = ()
    temperature: float = 0.0
    prompt: str = ""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Agent:
        """From what was stored, JSON's lists as tuples."""
        known: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()
        }
        return cls(**known)

    @property
    def models(self) -> tuple[str, ...]:
        """Its model, then those to fall back on."""
        return (self.model, *(name for name in self.fallback_models if name != self.model))

    @property
    def is_default(self) -> bool:
        """Whether requests that name no agent go to this one."""
        return self.name == DEFAULT_AGENT

    @property
    def limits(self) -> Limits:
        """Its limits, defaults filled in."""
        defaults = Limits()
        return Limits(
            self.max_steps or defaults.max_steps,
            self.max_tokens or defaults.max_tokens,
            self.max_seconds or defaults.max_seconds,
            self.max_errors or defaults.max_errors,
            self.max_cost_micros,
        )

    def within(self, budget: Budget) -> Agent:
        """The same agent with no more than what is left of another run's budget."""
        limits = self.limits
        cost = min(limits.max_cost_micros or budget.cost_micros, budget.cost_micros or limits.max_cost_micros)
        return replace(
            self,
            max_tokens=min(limits.max_tokens, budget.tokens),
            max_cost_micros=cost,
            max_seconds=max(1, math.floor(min(limits.max_seconds, budget.seconds))),
        )

    @property
    def shown_tools(self) -> int:
        """Most tools the model is shown at once."""
        return self.max_shown_tools or SHOWN_TOOLS


def default_agent() -> Agent:
    """The agent every tenant has before it defines one."""
    return Agent(DEFAULT_AGENT, "Answers with the built-in tools and the tenant's documents.", tools=BUILTIN_TOOLS)


def check_name(name: str) -> None:
    """Raises InvalidArgument when a name is not allowed."""
    if not _NAME.match(name):
        raise InvalidArgument("name: use 1 to 64 letters, digits, '_' or '-'.", field="name")
