"""One suite over every engine: what the port promises, and what each declares it can do."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from errand_common.errors import InvalidArgument
from errand_inference.domain.chat import PromptInput, ToolDeclaration, UserMessage
from errand_inference.domain.dispatch import Dispatcher
from errand_inference.domain.engine import Capability, ChatTurn, Delta, Engine, EngineRequest, Finish
from errand_inference.domain.format import END_TURN, STOP_TOKENS, render_prompt
from errand_inference.domain.generation import Generation, GenerationRequest, GenerationResult
from errand_inference.domain.grammar import Grammar, Rule, ToolChoice, build_grammar, build_json_grammar
from errand_inference.domain.parser import parse_turn
from errand_inference.domain.schemas import problem_with
from errand_inference.engines.openvino import OpenVinoEngine
from errand_inference.engines.provider import Address
from errand_inference.engines.remote import RemoteEngine, RemoteOptions
from errand_inference.engines.scripted import ScriptedEngine, ScriptRule
from errand_inference.engines.vllm import VllmEngine
from errand_inference.engines.vllm_server import VllmServer, VllmServerEngine
from errand_inference.engines.wire import OpenVinoOptions
from errand_inference.metrics import PrometheusObserver
from errand_inference.testing.provider import Provider, Reply, serving_provider
from pydantic import SecretStr

WORDS = " ".join(f"word{number}" for number in range(200))
CONTEXT_TOKENS = 1024


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with serving_provider(Provider([Reply("long", WORDS), Reply("short", "Hello there.")])) as made:
        yield made


ENGINES = ["openvino", "transformers", "transformers-cuda", "scripted", "openai", "anthropic", "vllm", "vllm-server"]
# vLLM's asynchronous engine stays in the event loop it was first used in.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[Engine]:
    match request.param:
        case "openvino":
            folder = request.getfixturevalue("tiny_openvino")
            made: Engine = OpenVinoEngine(
                folder, precision="fp32", context_tokens=CONTEXT_TOKENS, options=OpenVinoOptions()
            )
        case "transformers":
            from errand_inference.engines.transformers import TransformersEngine  # noqa: PLC0415 - loads torch

            made = TransformersEngine(tiny_model, context_tokens=CONTEXT_TOKENS, threads=1)
        case "transformers-cuda":
            import torch  # noqa: PLC0415 - as above
            from errand_inference.engines.transformers import TransformersEngine  # noqa: PLC0415 - loads torch

            if not torch.cuda.is_available():
                pytest.skip("this machine has no GPU that torch can use")
            made = TransformersEngine(tiny_model, context_tokens=CONTEXT_TOKENS, device="cuda")
        case "vllm":
            pytest.importorskip("vllm", reason="vLLM is not installed: it needs a GPU, or its build for CPUs")
            from errand_inference.engines.vllm_process import VllmProcess  # noqa: PLC0415 - loads vLLM

            # In f32 a row says the same whoever is beside it.
            process = VllmProcess(tiny_model, context_tokens=CONTEXT_TOKENS, compute="f32")
            made = VllmEngine(tiny_model, process, precision="f32", context_tokens=CONTEXT_TOKENS)
        case "vllm-server":
            if not (url := os.environ.get("ERRAND_TEST_VLLM_URL")):
                pytest.skip("ERRAND_TEST_VLLM_URL names no vLLM server of the tiny model, see docs/inference.md")
            server = VllmServer(Address(url, "tiny", idle_connections=0))
            made = VllmServerEngine(tiny_model, server, context_tokens=CONTEXT_TOKENS)
        case "openai" | "anthropic" as api:
            provider = request.getfixturevalue("provider")
            # No connection outlives a test: each has an event loop of its own.
            options = RemoteOptions(
                provider.url, "m", api, SecretStr("secret"), context_tokens=CONTEXT_TOKENS, idle_connections=0
            )
            made = RemoteEngine(options)
        case _:
            rules = [ScriptRule("long", WORDS), ScriptRule("short", "Hello there.")]
            made = ScriptedEngine(rules, context_tokens=CONTEXT_TOKENS, seconds_per_token=0.001)
    yield made
    asyncio.run(made.close())


def prompt_of(text: str, tools: tuple[ToolDeclaration, ...] = ()) -> str:
    return render_prompt(PromptInput((UserMessage(text),), tools))


def generation_of(engine: Engine, request: EngineRequest) -> AsyncGenerator[Delta, None]:
    """A provider's engine reads messages, the others the prompt."""
    return engine.generate(replace(request, chat=ChatTurn(PromptInput((UserMessage(request.prompt),)))))


async def collect(engine: Engine, request: EngineRequest) -> tuple[str, list[Delta]]:
    deltas = [delta async for delta in generation_of(engine, request)]
    return "".join(delta.text for delta in deltas), deltas


def needs(engine: Engine, capability: Capability) -> None:
    if capability not in engine.capabilities:
        pytest.skip(f"{engine.name} does not declare {capability.value}")


class TestEngine:
    async def test_the_last_delta_alone_says_why_it_ended_and_tokens_are_counted(self, engine: Engine) -> None:
        text, deltas = await collect(engine, EngineRequest(prompt_of("long"), 20))
        assert [delta.finish for delta in deltas[:-1]] == [None] * (len(deltas) - 1)
        assert deltas[-1].finish is Finish.LENGTH
        assert sum(delta.tokens for delta in deltas) == 20
        assert len(text) > 0

    async def test_the_prompts_tokens_are_told_from_the_first_delta_on(self, engine: Engine) -> None:
        needs(engine, Capability.EXACT_TOKENS)
        _, deltas = await collect(engine, EngineRequest(prompt_of("long"), 3))
        assert {delta.prompt_tokens for delta in deltas} == set(engine.count_tokens([prompt_of("long")]))

    async def test_text_arrives_while_it_is_generated(self, engine: Engine) -> None:
        needs(engine, Capability.STREAMING)
        _, deltas = await collect(engine, EngineRequest(prompt_of("long"), 60))
        assert len(deltas) > 10

    async def test_greedy_output_is_the_same_every_time(self, engine: Engine) -> None:
        first, second = [await collect(engine, EngineRequest(prompt_of("long"), 24)) for _ in range(2)]
        assert first[0] == second[0]

    async def test_a_seed_repeats_a_draw(self, engine: Engine) -> None:
        wanted = EngineRequest(prompt_of("long"), 24, temperature=1.0, seed=3)
        assert (await collect(engine, wanted))[0] == (await collect(engine, wanted))[0]

    async def test_stop_texts_end_the_turn_and_are_left_out(self, engine: Engine) -> None:
        whole, _ = await collect(engine, EngineRequest(prompt_of("long"), 40))
        middle = whole[len(whole) // 2 : len(whole) // 2 + 3]
        text, deltas = await collect(engine, EngineRequest(prompt_of("long"), 40, stop=(middle,)))
        assert text == whole[: whole.index(middle)]
        assert deltas[-1].finish is Finish.STOP

    async def test_concurrent_requests_get_their_own_output(self, engine: Engine) -> None:
        prompts = [prompt_of(f"long {number} " + "x" * number) for number in range(8)]
        alone = [(await collect(engine, EngineRequest(prompt, 12)))[0] for prompt in prompts]
        together = await asyncio.gather(*(collect(engine, EngineRequest(prompt, 12)) for prompt in prompts))
        assert [text for text, _ in together] == alone

    async def test_an_ended_iterator_frees_the_engine(self, engine: Engine) -> None:
        many = 4 if Capability.CONTINUOUS_BATCHING in engine.capabilities else 1
        running = [generation_of(engine, EngineRequest(prompt_of("long"), 900)) for _ in range(many)]
        for generation in running:
            await anext(generation)
        for generation in running:
            await generation.aclose()
        began = time.monotonic()
        await collect(engine, EngineRequest(prompt_of("short"), 2))
        # Far less than what 900 tokens take.
        assert time.monotonic() - began < 5

    async def test_a_prompt_that_fills_the_context_is_refused(self, engine: Engine) -> None:
        with pytest.raises(InvalidArgument, match="messages"):
            await collect(engine, EngineRequest("word " * 3000, 5))

    async def test_the_context_bounds_the_output(self, engine: Engine) -> None:
        text = "long"
        while (room := CONTEXT_TOKENS - engine.count_tokens([prompt_of(text)])[0]) > 20:
            text += " 1"
        _, deltas = await collect(engine, EngineRequest(prompt_of(text), 2000))
        assert deltas[-1].finish is not None
        assert 0 < sum(delta.tokens for delta in deltas) <= room

    async def test_tokens_are_counted_text_by_text(self, engine: Engine) -> None:
        assert engine.count_tokens([""]) == [0]
        short, long = engine.count_tokens(["a word", "a word and another word, and more of them"])
        assert 0 < short < long

    async def test_every_forced_call_is_well_formed_and_valid(self, engine: Engine) -> None:
        needs(engine, Capability.GRAMMAR)
        schema = _bounded_schema()
        tools = (ToolDeclaration("measure", "Measures.", schema), ToolDeclaration("rest", "Rests.", {}))
        grammar = build_grammar(tools, choice=ToolChoice.REQUIRED)
        requests = [
            EngineRequest(prompt_of(f"case {seed}", tools), 400, temperature=1.5, seed=seed, grammar=grammar)
            for seed in range(6 if engine.name in {"openvino", "vllm"} else 2)
        ]
        for text, deltas in await asyncio.gather(*(collect(engine, request) for request in requests)):
            assert deltas[-1].finish is Finish.STOP
            parsed = parse_turn(text)
            assert parsed.malformed == 0
            assert parsed.calls
            assert not parsed.text
            for call in parsed.calls:
                assert call.name in {"measure", "rest"}
                assert problem_with(call, json.dumps(schema if call.name == "measure" else {})) is None

    async def test_every_turn_ends_in_text_or_valid_calls(self, engine: Engine) -> None:
        needs(engine, Capability.GRAMMAR)
        many = {"openvino": 200, "vllm": 40}.get(engine.name, 3)
        rng = random.Random(5)
        generation, dispatcher = Generation(PrometheusObserver()), Dispatcher(engine, slots=64, queue_capacity=many)
        requests = [_random_request(rng, number) for number in range(many)]
        results = await asyncio.gather(*(_result(generation, dispatcher, request) for request in requests))
        for request, result in zip(requests, results, strict=True):
            assert result.calls or result.text, request
            assert result.calls or request.choice is ToolChoice.AUTO
            assert {call.name for call in result.calls} <= request.schemas.keys()
            for call in result.calls:
                assert problem_with(call, request.schemas[call.name]) is None

    async def test_free_text_holds_no_control_token(self, engine: Engine) -> None:
        needs(engine, Capability.GRAMMAR)
        grammar = build_grammar([])
        for seed in range(2):
            request = EngineRequest(prompt_of("text"), 60, temperature=2.0, seed=seed, grammar=grammar)
            text, _ = await collect(engine, request)
            assert not any(token in text.removesuffix(END_TURN) for token in (*STOP_TOKENS, "<escape>", "<bos>"))

    async def test_json_of_a_schema(self, engine: Engine) -> None:
        needs(engine, Capability.GRAMMAR)
        schema = {
            "type": "object",
            "properties": {"kind": {"enum": ["a", "b"]}, "done": {"type": "boolean"}},
            "required": ["kind", "done"],
        }
        request = EngineRequest(prompt_of("json"), 60, temperature=1.0, seed=1, grammar=build_json_grammar(schema))
        text, deltas = await collect(engine, request)
        assert deltas[-1].finish is Finish.STOP
        assert json.loads(text)["kind"] in {"a", "b"}

    async def test_a_grammar_that_is_not_accepted_is_refused_and_the_engine_serves_on(self, engine: Engine) -> None:
        needs(engine, Capability.GRAMMAR)
        broken = Grammar({"root": Rule("missing")})
        for _ in range(2):
            with pytest.raises(InvalidArgument, match="grammar"):
                await collect(engine, EngineRequest(prompt_of("long"), 10, grammar=broken))
        text, _ = await collect(engine, EngineRequest(prompt_of("long"), 10))
        assert text
        assert engine.is_alive

    async def test_log_probabilities_are_those_of_the_tokens_and_the_best_is_chosen(self, engine: Engine) -> None:
        needs(engine, Capability.LOGPROBS)
        text, deltas = await collect(engine, EngineRequest(prompt_of("long"), 8, logprobs=True))
        told = [entry for delta in deltas for entry in delta.logprobs]
        assert len(told) == 8
        assert all(-50 < entry.logprob <= 0 for entry in told)
        assert "".join(entry.token for entry in told).startswith(text[:1])
        forced = build_json_grammar({"const": "a"})
        _, deltas = await collect(engine, EngineRequest(prompt_of("long"), 8, logprobs=True, grammar=forced))
        assert deltas[0].logprobs

    async def test_a_shared_prefix_is_told_as_cached(self, engine: Engine) -> None:
        needs(engine, Capability.PREFIX_CACHE)
        prefix = prompt_of("a prefix that is shared " * 8)
        await collect(engine, EngineRequest(prefix + " one", 2))
        _, deltas = await collect(engine, EngineRequest(prefix + " two", 2))
        assert 32 <= deltas[-1].cached_tokens < deltas[-1].prompt_tokens


def _bounded_schema() -> dict[str, object]:
    """No open-ended text: random weights would never end it."""
    return {
        "type": "object",
        "properties": {
            "unit": {"enum": ["meter", "mile", 3, None]},
            "exact": {"type": "boolean"},
            "count": {"type": "integer", "minimum": -3, "maximum": 120},
            "steps": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
            "at": {"type": "object", "properties": {"x": {"enum": ["{", "}", "a,b:c"]}}, "required": ["x"]},
        },
        "required": ["unit", "at"],
        "additionalProperties": False,
    }


async def _result(generation: Generation, dispatcher: Dispatcher, request: GenerationRequest) -> GenerationResult:
    events = [event async for event in generation.stream(request, dispatcher)]
    assert isinstance(events[-1], GenerationResult)
    return events[-1]


def _random_request(rng: random.Random, number: int) -> GenerationRequest:
    tools = tuple(_random_tool(rng, f"tool_{number}_{index}") for index in range(rng.randint(1, 4)))
    return GenerationRequest(
        PromptInput((UserMessage("call"),), tools),
        {tool.name: json.dumps(tool.parameters) for tool in tools},
        choice=rng.choice((ToolChoice.AUTO, ToolChoice.REQUIRED)),
        max_tokens=160,
        temperature=1.0,
        seed=number,
    )


def _random_tool(rng: random.Random, name: str) -> ToolDeclaration:
    kinds: list[dict[str, object]] = [
        {"type": "string"},
        {"type": "number"},
        {"type": "integer"},
        {"type": "boolean"},
        {"enum": ["a", "b"]},
        {"type": "array", "items": {"type": "string"}},
        {"type": "object", "properties": {"k": {"type": "string"}}},
        {"anyOf": [{"type": "null"}, {"type": "integer"}]},
    ]
    properties = {f"p{index}": rng.choice(kinds) for index in range(rng.randint(0, 4))}
    required = [key for key in properties if rng.random() < 0.5]
    return ToolDeclaration(name, "A tool.", {"type": "object", "properties": properties, "required": required})  # type: ignore[dict-item]
