"""Prompts: instructions with versions, aliases and results by version."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class PromptVariant:
    """A version and its share of the conversations, in percent."""

    version: int
    percent: int


@dataclass(frozen=True, slots=True)
class PromptAlias:
    """A name for one version or several."""

    name: str
    variants: Sequence[PromptVariant]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One version of a prompt, and all of the prompt's aliases."""

    name: str
    template: str
    description: str = ""
    version: int = 0
    created_at: datetime | None = None
    aliases: Sequence[PromptAlias] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class PromptResult:
    """What came of the runs of one version that have ended."""

    version: int
    runs: int
    answered: int
    helpful: int
    unhelpful: int
    tokens: int
    cost_micros: int


class PromptBackend(Protocol):
    """Prompts of the agent service."""

    async def put_prompt(self, prompt: Prompt) -> Prompt:
        """Stores a new version."""
        ...

    async def get_prompt(self, name: str, version: int) -> Prompt:
        """One version; 0 takes the newest."""
        ...

    async def list_prompts(self) -> Sequence[Prompt]:
        """The newest versions by name."""
        ...

    async def delete_prompt(self, name: str) -> None:
        """Removes a prompt with its aliases."""
        ...

    async def set_prompt_alias(self, name: str, alias: PromptAlias) -> Prompt:
        """Replaces an alias."""
        ...

    async def prompt_results(self, name: str, since: datetime | None) -> Sequence[PromptResult]:
        """By version, the newest first."""
        ...
