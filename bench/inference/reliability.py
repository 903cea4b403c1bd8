"""What stands between the queue and the engine costs, and what it saves: parser, checks, attempts, breaker."""

from __future__ import annotations

import statistics
import time
from contextlib import aclosing
from typing import Any

from errand_common.errors import Unavailable
from errand_inference.domain.chat import PromptInput, ToolDeclaration, UserMessage
from errand_inference.domain.dispatch import Dispatcher, Wait
from errand_inference.domain.engine import EngineRequest
from errand_inference.domain.generation import Generation, GenerationRequest, GenerationResult
from errand_inference.domain.reliability import Reliability
from errand_inference.domain.scheduler import Priority
from errand_inference.engines.scripted import ScriptedEngine, ScriptRule
from errand_inference.metrics import PrometheusObserver

REQUESTS = 300
FAILING = 0.2
SCHEMA_JSON = '{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}'
SAID = " ".join(["Let", "me", "see."] * 12)
ANSWER = SAID + "<start_function_call>call:weather{city:<escape>Oslo<escape>}<end_function_call>"
DECLARED = ToolDeclaration(
    "weather", "Tells the weather.", {"type": "object", "properties": {"city": {"type": "string"}}}
)
ASKED = GenerationRequest(
    PromptInput((UserMessage("weather"),), (DECLARED,)), schemas={"weather": SCHEMA_JSON}, max_tokens=256
)


async def reliability_figures() -> dict[str, Any]:
    """Milliseconds a request beyond those of queue and engine; what becomes of requests when attempts fail."""
    engine = ScriptedEngine([ScriptRule("weather", ANSWER)])
    dispatcher = _served_by(engine)
    generation = Generation(PrometheusObserver())
    bare, whole = [], []
    for _ in range(REQUESTS):
        bare.append(await _bare_ms(dispatcher))
        began = time.perf_counter()
        await _answer(generation, dispatcher)
        whole.append(1000 * (time.perf_counter() - began))
    return {"added_ms": round(statistics.median(whole) - statistics.median(bare), 3), **await _with_failures()}


def _served_by(engine: ScriptedEngine) -> Dispatcher:
    return Dispatcher(engine, slots=8, queue_capacity=64, model="scripted")


async def _bare_ms(dispatcher: Dispatcher) -> float:
    began = time.perf_counter()
    run = dispatcher.run(
        EngineRequest("<start_of_turn>user\nweather", 256),
        tenant_id="",
        priority=Priority.INTERACTIVE,
        deadline=time.monotonic() + 60,
        wait=Wait(),
    )
    async with aclosing(run) as deltas:
        async for _ in deltas:
            pass
    return 1000 * (time.perf_counter() - began)


async def _answer(generation: Generation, dispatcher: Dispatcher) -> GenerationResult:
    async with aclosing(generation.stream(ASKED, dispatcher)) as events:
        async for event in events:
            if isinstance(event, GenerationResult):
                return event
    raise RuntimeError("a turn without a result")


async def _with_failures() -> dict[str, Any]:
    engine = ScriptedEngine([ScriptRule("weather", ANSWER)], failure_rate=FAILING, seed=3)
    dispatcher = _served_by(engine)
    policy = Reliability(pause_seconds=0.001)
    generation = Generation(PrometheusObserver(), policy)
    served, attempts = 0, 0
    for _ in range(REQUESTS):
        try:
            result = await _answer(generation, dispatcher)
        except Unavailable:
            attempts += policy.attempts
        else:
            served, attempts = served + (len(result.calls) == 1), attempts + result.attempts
    return {"failing": FAILING, "succeeded": served / REQUESTS, "attempts_counted": attempts / engine.asked}
