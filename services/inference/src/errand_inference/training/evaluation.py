"""Scores a model on tools it never saw: exact calls, refusals, answers, citations.

The cases come from the same generator as the training data, but from the held-out tools, other seeds
and so other values. A call is exact when its name and all arguments are equal (numbers by value).
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from errand_inference.domain.chat import (
    JsonValue,
    ModelMessage,
    PromptInput,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from errand_inference.training import knowledge
from errand_inference.training.catalogue import Catalogue
from errand_inference.training.examples import (
    BUILTIN_TOOLS,
    Offer,
    draw_irrelevant,
    draw_offer,
    draw_parallel,
    draw_single,
    result_of,
    two_step_example,
)

CASES_PER_SUITE = 300
SEED = 97


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model made of a prompt; `well_formed` is false when a call could not be read."""

    text: str
    calls: tuple[ToolCall, ...]
    well_formed: bool = True


class Generator(Protocol):
    """Anything that answers a prompt greedily: an engine in this process, or the service."""

    def __call__(self, prompt: PromptInput) -> Awaitable[Generation]: ...


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt and what must come of it: the calls when there are some, else the text."""

    prompt: PromptInput
    calls: tuple[ToolCall, ...]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """Right answers of one suite."""

    suite: str
    right: int
    cases: int
    well_formed: int
    target_percent: float | None

    @property
    def percent(self) -> float:
        return 100 * self.right / self.cases


def same_value(left: JsonValue, right: JsonValue) -> bool:
    """Equality of JSON values; 3 equals 3.0, but never true."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same_value(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same_value, left, right))
    return left == right


def same_calls(left: Sequence[ToolCall], right: Sequence[ToolCall]) -> bool:
    """Whether both hold the same calls, in any order."""
    remaining = list(right)
    for call in left:
        match = next(
            (r for r in remaining if r.name == call.name and same_value(r.arguments, call.arguments)),
            None,
        )
        if match is None:
            return False
        remaining.remove(match)
    return not remaining


def is_right(case: Case, generation: Generation) -> bool:
    """Calls must be exact; without calls, an expected text must be equal; a refusal may be in any words."""
    if case.calls:
        return same_calls(case.calls, generation.calls)
    if generation.calls:
        return False
    return case.text.strip() == generation.text.strip() if case.text else bool(generation.text.strip())


def _simple(rng: random.Random, catalogue: Catalogue) -> Case:
    return _single(rng, draw_offer(rng, catalogue, composed=1, builtins=0))


def _multiple(rng: random.Random, catalogue: Catalogue) -> Case:
    return _single(rng, draw_offer(rng, catalogue, composed=rng.randint(4, 8), builtins=0))


def _single(rng: random.Random, offer: Offer) -> Case:
    request = draw_single(rng, offer)
    return Case(PromptInput((UserMessage(request.text),), offer.declarations), (request.call,))


def _parallel(rng: random.Random, catalogue: Catalogue) -> Case:
    offer = draw_offer(rng, catalogue, composed=rng.randint(1, 4), builtins=0)
    text, calls = draw_parallel(rng, offer)
    return Case(PromptInput((UserMessage(text),), offer.declarations), calls)


def _irrelevant(rng: random.Random, catalogue: Catalogue) -> Case:
    offer = draw_offer(rng, catalogue, composed=rng.randint(1, 6), builtins=0)
    text, _ = draw_irrelevant(rng, offer, catalogue)
    return Case(PromptInput((UserMessage(text),), offer.declarations), ())


def _builtin_offer() -> Offer:
    return Offer(BUILTIN_TOOLS, (), tuple(tool.name for tool in BUILTIN_TOOLS))


def _builtin(rng: random.Random, catalogue: Catalogue) -> Case:
    return _single(rng, _builtin_offer())


def _answer(rng: random.Random, catalogue: Catalogue) -> Case:
    offer = (
        _builtin_offer() if rng.random() < 0.5 else draw_offer(rng, catalogue, composed=rng.randint(1, 4), builtins=0)
    )
    request = draw_single(rng, offer)
    result, told = result_of(rng, request.call)
    messages = (
        UserMessage(request.text),
        ModelMessage(calls=(request.call,)),
        ToolMessage(request.call.name, result),
    )
    return Case(PromptInput(messages, offer.declarations), (), told)


def _citation(rng: random.Random, catalogue: Catalogue) -> Case:
    reading = knowledge.draw_reading(rng)
    return Case(PromptInput((UserMessage(reading.user_text()),), BUILTIN_TOOLS), (), reading.answer)


def _two_step(rng: random.Random, catalogue: Catalogue) -> Case:
    messages = two_step_example(rng, _builtin_offer()).messages
    second = messages[3]
    calls = second.calls if isinstance(second, ModelMessage) else ()
    return Case(PromptInput(messages[:3], BUILTIN_TOOLS), calls)


# Suite -> (how its cases are drawn, the share of right answers asked for).
SUITES: Mapping[str, tuple[Callable[[random.Random, Catalogue], Case], float | None]] = {
    "simple": (_simple, 70.0),
    "one of 4-8": (_multiple, 60.0),
    "two parallel": (_parallel, 50.0),
    "irrelevance": (_irrelevant, 80.0),
    "built-in tools": (_builtin, 95.0),
    "answer from result": (_answer, None),
    "answer with citation": (_citation, None),
    "second of two steps": (_two_step, None),
}


def draw_cases(suite: str, count: int = CASES_PER_SUITE) -> list[Case]:
    """The suite's cases, the same ones every time."""
    rng = random.Random(f"{SEED}:{suite}")  # noqa: S311 - test cases, not a secret
    catalogue = Catalogue(held_out=True)
    draw, _ = SUITES[suite]
    return [draw(rng, catalogue) for _ in range(count)]


async def score_suite(
    suite: str,
    generate: Generator,
    count: int = CASES_PER_SUITE,
    on_wrong: Callable[[Case, Generation], None] | None = None,
) -> Score:
    """Runs the suite's cases one after the other."""
    right = formed = 0
    cases = draw_cases(suite, count)
    for case in cases:
        generation = await generate(case.prompt)
        formed += generation.well_formed
        if is_right(case, generation):
            right += 1
        elif on_wrong is not None:
            on_wrong(case, generation)
    return Score(suite, right, len(cases), formed, SUITES[suite][1])


def as_markdown(scores: Iterable[Score]) -> str:
    """The scores as a table."""
    lines = ["| suite | right | of | % | asked for | well-formed |", "|---|---|---|---|---|---|"]
    for score in scores:
        asked = f"{score.target_percent:.0f}%" if score.target_percent is not None else "-"
        formed = f"{100 * score.well_formed / score.cases:.1f}%"
        lines.append(f"| {score.suite} | {score.right} | {score.cases} | {score.percent:.1f} | {asked} | {formed} |")
    return "\n".join(lines)
