"""Prompts: instructions with versions, and aliases that share conversations out between them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from errand_common.errors import InvalidArgument

from errand_agent.domain.agents import Agent
from errand_agent.domain.templates import check_template, render

MOST_PROMPTS = 200
_WHOLE = 100
_SAMPLE = {"agent": "default", "instructions": "Be short.", "today": "2026-01-31", "user": "user-1"}


@dataclass(frozen=True, slots=True)
class Variant:
    """A version and its share of the conversations, in percent."""

    version: int
    percent: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """One version of a prompt, and the prompt's aliases by name."""

    name: str
    template: str
    description: str = ""
    version: int = 0
    created_at: datetime | None = None
    aliases: Mapping[str, Sequence[Variant]] | None = None


@dataclass(frozen=True, slots=True)
class Registered:
    """A prompt as a registry has it: templates by its own version numbers, the newest one and those of aliases."""

    newest: int
    templates: Mapping[int, str]
    aliases: Mapping[str, int]


class PromptRegistry(Protocol):
    """Where prompts are written outside; what is here is a copy."""

    async def find(self, tenant_id: str, name: str) -> Registered | None:
        """A tenant's prompt, None where there is none. Raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class PromptResult:
    """What came of the runs of one version that have ended."""

    version: int
    runs: int = 0
    answered: int = 0
    helpful: int = 0
    unhelpful: int = 0
    tokens: int = 0
    cost_micros: int = 0


def check_prompt(template: str) -> None:
    """Raises InvalidArgument for a template that does not parse or render."""
    check_template(template, _SAMPLE.keys(), "prompt.template")
    try:
        text = render(template, _SAMPLE)
    except ValueError as error:
        raise InvalidArgument(f"prompt.template: {error}.", field="prompt.template") from error
    if not text.strip():
        raise InvalidArgument("prompt.template: it makes an empty text.", field="prompt.template")


def check_variants(variants: Sequence[Variant], newest: int) -> None:
    """Raises InvalidArgument for shares that do not make a whole, or versions that there are not."""
    versions = [variant.version for variant in variants]
    if missing := next((version for version in versions if not 1 <= version <= newest), None):
        raise InvalidArgument(f"alias.variants: there is no version {missing}.", field="alias.variants")
    if len(set(versions)) < len(versions):
        raise InvalidArgument("alias.variants: a version is named twice.", field="alias.variants")
    if (total := sum(variant.percent for variant in variants)) != _WHOLE:
        raise InvalidArgument(f"alias.variants: the shares make {total}, not {_WHOLE}.", field="alias.variants")


def chosen(variants: Sequence[Variant], alias: str, conversation_id: str) -> int:
    """The version of a conversation: always the same one, by the shares among all conversations."""
    digest = hashlib.sha256(f"{alias}:{conversation_id}".encode()).digest()
    point = int.from_bytes(digest[:8], "big") % _WHOLE
    for variant in variants:
        point -= variant.percent
        if point < 0:
            return variant.version
    return variants[-1].version


def instructions_of(template: str, agent: Agent, *, today: str, user: str) -> str:
    """The text for a run; raises ValueError when the template fails."""
    return render(template, {"agent": agent.name, "instructions": agent.instructions, "today": today, "user": user})
