"""What the grammar costs: compile times, and the same tool requests with the grammar on and off."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from typing import Any

from errand.inference.v1 import inference_pb2 as pb
from errand.inference.v1 import inference_pb2_grpc
from errand_common.rpc.client import acting_as, create_channel
from errand_common.testing.keys import principal
from errand_inference.domain.chat import ToolDeclaration
from errand_inference.domain.dialects import to_ebnf
from errand_inference.domain.grammar import build_grammar
from peers import Service

TOOLS = 10
# What the smallest shape's context holds.
DECLARED = 4
AT_ONCE = 8
# Arguments without open-ended text: random weights would never end it.
SCHEMA = {
    "type": "object",
    "properties": {
        "unit": {"enum": ["meter", "mile", "kilometre"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
        "exact": {"type": "boolean"},
        "steps": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
    },
    "required": ["unit", "exact"],
}


async def grammar_figures(service: Service, rounds: int) -> dict[str, Any]:
    """Milliseconds to build a grammar and to find it again; milliseconds a token of text with and without one."""
    called, text = [], []
    for number in range(rounds + 1):
        called.append(await _ask(service, number, pb.TOOL_CHOICE_MODE_REQUIRED))
        text.append(await _ask(service, number, pb.TOOL_CHOICE_MODE_NONE))
    return {
        "build_ms": round(_build_ms(), 3),
        "well_formed_calls": sum(answer["calls"] > 0 for answers in called[1:] for answer in answers)
        / (rounds * AT_ONCE),
        "ms_per_token_calls": _per_token(called[1:]),
        "ms_per_token_text": _per_token(text[1:]),
    }


def _build_ms() -> float:
    times = []
    for number in range(20):
        tools = [ToolDeclaration(f"tool_{number}_{index}", "", SCHEMA) for index in range(TOOLS)]
        began = time.perf_counter()
        to_ebnf(build_grammar(tools))
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


async def _ask(service: Service, number: int, mode: pb.ToolChoiceMode) -> list[dict[str, float]]:
    tools = [pb.ToolDeclaration(name=f"tool_{index}", parameters_json=json.dumps(SCHEMA)) for index in range(DECLARED)]
    requests = [
        pb.GenerateRequest(
            messages=[pb.Message(user=pb.UserMessage(text=f"{number} {index}"))],
            tools=tools,
            tool_choice=pb.ToolChoice(mode=mode, single_call=True),
            sampling=pb.Sampling(max_tokens=256 if mode == pb.TOOL_CHOICE_MODE_REQUIRED else 48),
        )
        for index in range(AT_ONCE)
    ]
    async with create_channel(f"127.0.0.1:{service.port}") as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        with acting_as(principal(), signer=service.keys.signer):
            answers = await asyncio.gather(*(stub.Generate(request, timeout=280) for request in requests))
    return [
        {
            "calls": len(answer.calls),
            "ms": answer.timing.total_ms - answer.timing.first_token_ms,
            "tokens": answer.usage.completion_tokens,
        }
        for answer in answers
    ]


def _per_token(rounds: list[list[dict[str, float]]]) -> float:
    found = [answer["ms"] / max(1, answer["tokens"] - 1) for answers in rounds for answer in answers]
    return round(statistics.median(found), 3)
