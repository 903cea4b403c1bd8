"""What the grammar costs and gives: compile times, the same requests with and without it, calls of many tool sets."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from errand.inference.v1 import inference_pb2 as pb
from errand_inference.domain.chat import PromptInput, ToolCall, ToolDeclaration
from errand_inference.domain.dialects import to_ebnf
from errand_inference.domain.generation import GenerationRequest, GrammarCache
from errand_inference.domain.grammar import Grammar, ToolChoice
from errand_inference.domain.opening import after, opening
from errand_inference.domain.repair import Attempt
from errand_inference.domain.schemas import problem_with
from errand_inference.metrics import PrometheusObserver
from peers import Places, Service

TOOLS = 10
# What the smallest shape's context holds.
DECLARED = 4
AT_ONCE = 8
REPEATS = 20
REQUIRED, TEXT = pb.TOOL_CHOICE_MODE_REQUIRED, pb.TOOL_CHOICE_MODE_NONE
CALL_TOKENS, TEXT_TOKENS = 256, 48
# Arguments that a grammar holds whole, without open-ended text: random weights would never end it.
PROPERTIES: dict[str, Any] = {
    "unit": {"enum": ["meter", "mile", "kilometre"]},
    "count": {"type": "integer", "minimum": 0, "maximum": 99},
    "exact": {"type": "boolean"},
    "steps": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
}
SCHEMA = {"type": "object", "properties": PROPERTIES, "required": ["unit", "exact"]}
Answer = pb.GenerateResponse


async def grammar_figures(places: Places, rounds: int, tool_sets: int) -> dict[str, Any]:
    """Milliseconds and shares; "off" is the same service whose engine is bound by no grammar."""
    on, off = Service(places), Service(places, program=(str(Path(__file__).with_name("without_grammar.py")),))
    try:
        await asyncio.gather(on.ready(), off.ready())
        told = await _on_and_off(on, off, rounds)
        compiled = [await _compile_ms(on, number) for number in range(rounds)]
        well_formed = await _well_formed(on, tool_sets)
    finally:
        await asyncio.gather(on.close(), off.close())
    return {
        **_written(),
        "engine_compile_ms": _median(compiled),
        **{f"ms_per_token_{name}": _per_token(answers) for name, answers in told.items()},
        "tokens_per_call": _median([answer.usage.completion_tokens for answer in told["calls"]]),
        "ms_per_call": _median([answer.timing.total_ms for answer in told["calls"] if answer.calls]),
        "calls_without_grammar": sum(bool(answer.calls) for answer in told["off_calls"]),
        "tool_sets": tool_sets,
        "well_formed_calls": well_formed,
    }


def _median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 3)


def _ms(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def _written() -> dict[str, float]:
    """Writing the grammar of a tool set for the engine, and finding it again."""
    made, found = [], []
    cache = GrammarCache(PrometheusObserver())
    for number in range(REPEATS):
        tools = tuple(ToolDeclaration(f"tool_{number}_{index}", "", SCHEMA) for index in range(TOOLS))
        prompt = PromptInput((), tools)
        schemas = {tool.name: json.dumps(SCHEMA) for tool in tools}
        request = GenerationRequest(prompt, schemas, ToolChoice.REQUIRED)
        for times in (made, found):
            times.append(_ms(lambda r=request, p=prompt: _for_the_engine(cache.get(r, p, "", Attempt()))))
    return {"build_ms": _median(made), "cached_ms": _median(found)}


def _for_the_engine(grammar: Grammar) -> str:
    return to_ebnf(after(grammar, opening(grammar).text) or grammar)


async def _on_and_off(on: Service, off: Service, rounds: int) -> dict[str, list[Answer]]:
    """Answers by what was asked, in turns; the first round compiles grammars and reads prefixes, and is left out.

    Without a grammar nothing ends a call: it is as long as those with one were, as a longer text is slower a token.
    """
    asked = {"calls": (on, REQUIRED), "off_calls": (off, REQUIRED), "text": (on, TEXT), "off_text": (off, TEXT)}
    most = {"calls": CALL_TOKENS, "text": TEXT_TOKENS, "off_text": TEXT_TOKENS}
    told: dict[str, list[Answer]] = {name: [] for name in asked}
    tools = [(f"tool_{index}", SCHEMA) for index in range(DECLARED)]
    for number in range(rounds + 1):
        for name, (service, mode) in asked.items():
            requests = [_request(f"{number} {index}", tools, mode, most[name]) for index in range(AT_ONCE)]
            answers = await _ask(service, requests)
            if name == "calls":
                most["off_calls"] = round(_median([answer.usage.completion_tokens for answer in answers]))
            told[name] += answers if number else []
    return told


def _request(text: str, tools: list[tuple[str, Any]], mode: pb.ToolChoiceMode, tokens: int) -> pb.GenerateRequest:
    return pb.GenerateRequest(
        messages=[pb.Message(user=pb.UserMessage(text=text))],
        tools=[pb.ToolDeclaration(name=name, parameters_json=json.dumps(schema)) for name, schema in tools],
        tool_choice=pb.ToolChoice(mode=mode, single_call=True),
        sampling=pb.Sampling(max_tokens=tokens),
    )


async def _ask(service: Service, requests: Sequence[pb.GenerateRequest]) -> list[Answer]:
    with service.stub() as stub:
        return await asyncio.gather(*(stub.Generate(request, timeout=280) for request in requests))


def _per_token(answers: list[Answer]) -> float:
    return _median(
        [
            (answer.timing.total_ms - answer.timing.first_token_ms) / max(1, answer.usage.completion_tokens - 1)
            for answer in answers
        ]
    )


async def _compile_ms(service: Service, number: int) -> float:
    """Milliseconds that the engine compiles: to the first token of a tool set it did not know, less those of the
    same again. Asked as text before: so the prompt is read, and what is new is the grammar."""
    tools = [(f"t{number}_{index}", {"type": "object", "properties": {}}) for index in range(TOOLS)]
    times = []
    for mode in (TEXT, REQUIRED, REQUIRED):
        (answer,) = await _ask(service, [_request("compile", tools, mode, CALL_TOKENS)])
        times.append(answer.timing.first_token_ms)
    return times[1] - times[2]


async def _well_formed(service: Service, tool_sets: int) -> float:
    """The share of turns that end in one valid call, of so many tool sets that have no tool in common."""
    drawn = random.Random(5)
    good = 0
    for first in range(0, tool_sets, AT_ONCE):
        sets = [_drawn(drawn, number) for number in range(first, min(tool_sets, first + AT_ONCE))]
        answers = await _ask(service, [_request("call", tools, REQUIRED, CALL_TOKENS) for tools in sets])
        good += sum(_is_valid(dict(tools), answer) for tools, answer in zip(sets, answers, strict=True))
    return good / tool_sets


def _drawn(drawn: random.Random, number: int) -> list[tuple[str, Any]]:
    tools = []
    for index in range(drawn.randint(1, DECLARED)):
        names = drawn.sample(sorted(PROPERTIES), drawn.randint(1, len(PROPERTIES)))
        properties = {f"{name}_{number}": PROPERTIES[name] for name in names}
        required = drawn.sample(sorted(properties), drawn.randint(0, len(properties)))
        tools.append((f"s{number}_{index}", {"type": "object", "properties": properties, "required": required}))
    return tools


def _is_valid(schemas: dict[str, Any], answer: Answer) -> bool:
    if len(answer.calls) != 1 or answer.calls[0].name not in schemas:
        return False
    (call,) = answer.calls
    made = ToolCall(call.name, json.loads(call.arguments_json))
    return problem_with(made, json.dumps(schemas[call.name])) is None
