"""Scripted ports for the loop: what the model says, what tools answer, what documents hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from errand_common.errors import NotFound

from errand_agent.domain.context import Plan
from errand_agent.domain.ports import Call, Decision, Passage, RunCancelled, Thought, ToolResult, ToolSpec, Turn
from errand_agent.domain.runs import Budget, Step, StepKind, Usage


def said(text: str, tokens: int = 10) -> Thought:
    """A turn of text."""
    return Thought(text, (), Usage(tokens, tokens))


def called(*calls: tuple[str, str], tokens: int = 10) -> Thought:
    """A turn of calls, each a name and its arguments as JSON."""
    return Thought("", tuple(Call(name, arguments) for name, arguments in calls), Usage(tokens, tokens))


@dataclass(slots=True)
class ScriptedModel:
    """Says its script turn by turn; an exception in it is raised. Remembers what it was asked."""

    script: list[Thought | Exception]
    asked: list[tuple[tuple[Turn, ...], bool]] = field(default_factory=list)
    tokens_per_text: int = 10
    context_tokens: int = 4096
    words: tuple[str, ...] = ()
    instructions: list[str] = field(default_factory=list)
    hanging: asyncio.Event | None = None
    models: list[str] = field(default_factory=list)
    temperatures: list[float] = field(default_factory=list)

    async def think(
        self,
        turns: Sequence[Turn],
        *,
        model: str,
        instructions: str,
        tools: Sequence[ToolSpec],
        may_call: bool,
        on_text: Callable[[str], Awaitable[None]],
        temperature: float = 0.0,
    ) -> Thought:
        """The next turn of the script."""
        self.models.append(model)
        self.temperatures.append(temperature)
        self.asked.append((tuple(turns), may_call))
        self.instructions.append(instructions)
        if self.hanging is not None:
            await self.hanging.wait()
        turn = self.script.pop(0)
        if isinstance(turn, Exception):
            raise turn
        for word in turn.text.split(" ") if turn.text else ():
            await on_text(word + " ")
        return turn

    async def count_tokens(self, texts: Sequence[str], *, model: str) -> tuple[list[int], int]:
        """The same for each text."""
        return [self.tokens_per_text for _ in texts], self.context_tokens

    async def served(self) -> frozenset[str]:
        """None by name."""
        return frozenset()

    async def embed(self, texts: Sequence[str]) -> list[Sequence[float]]:
        """One dimension a word of `words`: texts that share words are near."""
        return [[float(word in text.lower()) for word in self.words] for text in texts]


@dataclass(slots=True)
class ScriptedToolbox:
    """Answers calls from a table by tool name; an exception in it is raised, a list is answered item by item."""

    results: Mapping[str, ToolResult | Exception | list[ToolResult | Exception]] = field(default_factory=dict)
    asking: frozenset[str] = frozenset()
    away: Exception | None = None
    executed: list[tuple[Call, str, int, int]] = field(default_factory=list)
    left: list[Budget | None] = field(default_factory=list)

    async def declared(self, names: Sequence[str]) -> list[ToolSpec]:
        """All of them that have a result."""
        if self.away is not None:
            raise self.away
        return [ToolSpec(name, f"does {name}", "{}", name in self.asking) for name in names if name in self.results]

    async def execute(
        self, call: Call, *, run_id: str, step: int, index: int, collections: Sequence[str], left: Budget | None
    ) -> ToolResult:
        """The tool's result."""
        self.left.append(left)
        self.executed.append((call, run_id, step, index))
        result = self.results[call.name]
        if isinstance(result, list):
            result = result.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


@dataclass(slots=True)
class ScriptedRetriever:
    """Finds the same passages whatever is asked."""

    passages: Sequence[Passage] = ()
    away: Exception | None = None
    collections: frozenset[str] = frozenset()

    async def find(self, query: str, *, collections: Sequence[str], top_k: int, min_similarity: float) -> list[Passage]:
        """Its passages."""
        if self.away is not None:
            raise self.away
        return [passage for passage in self.passages if passage.similarity >= min_similarity][:top_k]

    async def check_collections(self, names: Sequence[str]) -> None:
        """Raises NotFound for one it does not have."""
        for name in names:
            if name not in self.collections:
                raise NotFound("collection", name)


@dataclass(slots=True)
class MemoryJournal:
    """Remembers steps in memory; handed to a second loop it replays them."""

    remembered: dict[str, dict[str, Any]] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    done: list[str] = field(default_factory=list)
    asked: list[Call] = field(default_factory=list)
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    paused: float = 0.0
    cancelled: bool = False
    cancel_during: str = ""

    async def once(
        self, name: str, work: Callable[[], Awaitable[dict[str, Any]]], *, has_effects: bool = False
    ) -> dict[str, Any]:
        """Does the work unless it is remembered."""
        if name == self.cancel_during:
            self.cancelled = True
            raise RunCancelled
        if name not in self.remembered:
            self.remembered[name] = await work()
            self.done.append(name)
        return self.remembered[name]

    async def record(self, key: str, steps: Sequence[Step]) -> None:
        """Appends steps once a key."""
        if key not in self.keys:
            self.keys.add(key)
            self.steps.extend(steps)

    async def tell(self, key: str, text: str) -> None:
        """Appends a piece."""
        self.told.append(text)

    async def decide(self, step: int, calls: Mapping[int, Call]) -> tuple[dict[int, Decision], float]:
        """What the test said about the tool; an approval where it said nothing."""
        self.asked.extend(calls.values())
        return {index: self.decisions.get(call.name, Decision(call)) for index, call in calls.items()}, self.paused

    async def is_cancelled(self) -> bool:
        """Whether the test said so."""
        return self.cancelled


@dataclass(slots=True)
class CountingObserver:
    """Counts steps and removed citations."""

    observed: list[StepKind] = field(default_factory=list)
    removed: int = 0
    plans: list[tuple[Plan, bool]] = field(default_factory=list)

    @contextmanager
    def waiting(self, key: str) -> Iterator[None]:
        """Nothing is told of it."""
        yield

    @contextmanager
    def step(self, kind: StepKind, key: str, attributes: Mapping[str, Any]) -> Iterator[Callable[[Any], None]]:
        """Notes the kind."""
        self.observed.append(kind)
        yield lambda _: None

    def context(self, plan: Plan, *, summarised: bool) -> None:
        self.plans.append((plan, summarised))

    def citations_removed(self, count: int) -> None:
        self.removed += count
