"""The service over real gRPC: every method, its errors, deadlines and cancellation."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from errand.inference.v1 import inference_pb2 as pb
from errand.inference.v1 import inference_pb2_grpc
from errand_common.errors import (
    Conflict,
    InvalidArgument,
    ModelUnavailable,
    NotFound,
    Overloaded,
    PermissionDenied,
)
from errand_common.principal import Principal
from errand_common.rpc.client import acting_as, translate_errors
from errand_common.rpc.server import Registration
from errand_common.testing.keys import TestKeys, principal
from errand_common.testing.rpc import rpc_pair
from errand_inference.app import SERVICE_NAME
from errand_inference.domain.generation import Generation
from errand_inference.metrics import PrometheusObserver
from errand_inference.registry import ModelRegistry
from errand_inference.settings import InferenceSettings
from errand_inference.shadow import Shadows
from errand_inference.transport.servicer import InferenceServicer

SCRIPT = [
    {"pattern": r"response:", "output": "It is sunny.<end_of_turn>"},
    {
        "pattern": r"weather in (\w+)",
        "output": r"<start_function_call>call:get_weather{city:<escape>\1<escape>}<end_function_call>"
        "<start_function_response>",
    },
    {"pattern": "too hot", "output": "<start_function_call>call:heat{degrees:900}<end_function_call>"},
    {"pattern": "broken", "output": "<start_function_call>call:get_weather{city:}<end_function_call>"},
    {"pattern": "json", "output": '{"kind":"a"}'},
    {"pattern": "endless", "output": "again " * 2000},
    {"pattern": "Hello", "output": "Hello, how can I help?<end_of_turn>"},
]
WEATHER = pb.ToolDeclaration(
    name="get-weather",
    description="Weather of a city.",
    parameters_json='{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}',
)
HEAT = pb.ToolDeclaration(
    name="heat",
    description="Heats.",
    parameters_json='{"type":"object","properties":{"degrees":{"type":"integer","maximum":100}}}',
)
if TYPE_CHECKING:
    # The name that the stubs' types have and the stubs themselves have not.
    Stub = inference_pb2_grpc.InferenceServiceAsyncStub


def servicer_of(models: ModelRegistry) -> InferenceServicer:
    generation = Generation(PrometheusObserver())
    return InferenceServicer(models, generation, None, Shadows(models, generation))


@pytest.fixture
async def served(tmp_path: Path, keys: TestKeys) -> AsyncIterator[tuple[Stub, ModelRegistry]]:
    script = tmp_path / "script.json"
    script.write_text(json.dumps(SCRIPT))
    settings = InferenceSettings(
        engine="scripted",
        script_file=script,
        model_name="scripted",
        data_dir=tmp_path,
        max_batch=2,
        queue_capacity=3,
        max_models=2,
    )
    models = ModelRegistry(settings)
    await models.load("scripted", tmp_path)
    servicer = servicer_of(models)
    registration = Registration(inference_pb2_grpc.add_InferenceServiceServicer_to_server, servicer, SERVICE_NAME)
    async with rpc_pair([registration], keys) as channel:
        with acting_as(principal(), signer=keys.signer):
            yield inference_pb2_grpc.InferenceServiceStub(channel), models
    await models.close()


@pytest.fixture
def stub(served: tuple[Stub, ModelRegistry]) -> Stub:
    return served[0]


def asking(text: str, **fields: object) -> pb.GenerateRequest:
    tools = [WEATHER, HEAT]
    return pb.GenerateRequest(messages=[pb.Message(user=pb.UserMessage(text=text))], tools=tools, **fields)  # type: ignore[arg-type]


def slow(models: ModelRegistry, seconds_per_token: float) -> None:
    models.get("").engine._pause = seconds_per_token  # type: ignore[attr-defined]


async def test_a_call_comes_back_under_the_tools_own_name(stub: Stub) -> None:
    response = await stub.Generate(asking("weather in Oslo"), timeout=10)
    assert [(call.name, call.arguments_json) for call in response.calls] == [("get-weather", '{"city": "Oslo"}')]
    assert response.finish_reason == pb.FINISH_REASON_TOOL_CALLS
    assert response.text == ""
    assert response.model == "scripted"
    assert response.usage.prompt_tokens > 10
    assert response.usage.completion_tokens > 0
    assert response.timing.total_ms >= response.timing.first_token_ms >= 0


async def test_the_answer_after_a_tools_result(stub: Stub) -> None:
    request = asking("weather in Oslo")
    request.messages.append(
        pb.Message(model=pb.ModelMessage(calls=[pb.ToolCall(name="get-weather", arguments_json='{"city":"Oslo"}')]))
    )
    request.messages.append(pb.Message(tool=pb.ToolMessage(name="get-weather", result_json='{"sky":"sunny"}')))
    response = await stub.Generate(request, timeout=10)
    assert response.text == "It is sunny."
    assert response.finish_reason == pb.FINISH_REASON_STOP


async def test_a_stream_gives_pieces_and_then_the_whole(stub: Stub) -> None:
    events = [e async for e in stub.GenerateStream(pb.GenerateStreamRequest(request=asking("Hello")), timeout=10)]
    assert [event.WhichOneof("event") for event in events[:-1]] == ["text_delta"] * (len(events) - 1)
    assert len(events) > 3
    assert "".join(event.text_delta for event in events[:-1]) == events[-1].result.text == "Hello, how can I help?"
    calls = [
        e.call.name
        async for e in stub.GenerateStream(pb.GenerateStreamRequest(request=asking("weather in Rome")), timeout=10)
        if e.WhichOneof("event") == "call"
    ]
    assert calls == ["get-weather"]


@pytest.mark.parametrize("text", ["too hot", "broken"])
async def test_a_call_that_breaks_its_schema_is_left_out(stub: Stub, text: str) -> None:
    response = await stub.Generate(asking(text), timeout=10)
    assert (response.text, len(response.calls), response.finish_reason) == ("", 0, pb.FINISH_REASON_STOP)


async def test_max_tokens_and_json(stub: Stub) -> None:
    cut = await stub.Generate(asking("endless", sampling=pb.Sampling(max_tokens=5)), timeout=10)
    assert (cut.finish_reason, cut.usage.completion_tokens) == (pb.FINISH_REASON_LENGTH, 5)
    schema = '{"type":"object","properties":{"kind":{"const":"%s"}},"required":["kind"]}'
    good = await stub.Generate(asking("json", response_schema_json=schema % "a"), timeout=10)
    assert good.text == '{"kind":"a"}'
    bad = await stub.Generate(asking("json", response_schema_json=schema % "b"), timeout=10)
    assert bad.text == ""


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (asking("x", tool_choice=pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_NAMED)), "tool_choice.name"),
        (asking("x", tool_choice=pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_NAMED, name="no")), "tool_choice.name"),
        (asking("x", response_schema_json="{"), "response_schema_json"),
        (pb.GenerateRequest(messages=[pb.Message(user=pb.UserMessage(text="x"))], tools=[HEAT, HEAT]), "tools"),
        (pb.GenerateRequest(), "messages"),
        (
            pb.GenerateRequest(
                messages=[pb.Message(user=pb.UserMessage(text="x"))],
                tools=[pb.ToolDeclaration(name="t", parameters_json='{"type":"nonsense"}')],
            ),
            "tools[0].parameters_json",
        ),
        (
            pb.GenerateRequest(
                messages=[pb.Message(user=pb.UserMessage(text="x"))],
                tools=[pb.ToolDeclaration(name="t", parameters_json='{"properties":{"a:b":{}}}')],
            ),
            "tools[0].parameters_json",
        ),
        (
            pb.GenerateRequest(
                messages=[pb.Message(user=pb.UserMessage(text="x"))],
                tools=[pb.ToolDeclaration(name="t", parameters_json='{"$ref":"http://localhost:1/x"}')],
            ),
            "tools[0].parameters_json",
        ),
        (pb.GenerateRequest(messages=[pb.Message(tool=pb.ToolMessage(name="t", result_json="{"))]), "result_json"),
    ],
)
async def test_bad_requests_name_the_field(stub: Stub, request_: pb.GenerateRequest, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused, translate_errors("inference"):
        await stub.Generate(request_, timeout=10)
    assert field in refused.value.metadata["field"]


async def test_what_was_generated_before_the_deadline_is_returned(served: tuple[Stub, ModelRegistry]) -> None:
    stub, models = served
    slow(models, 0.02)
    response = await stub.Generate(asking("endless", sampling=pb.Sampling(max_tokens=2000)), timeout=1.0)
    assert response.finish_reason == pb.FINISH_REASON_DEADLINE
    assert response.text.startswith("again again")
    assert models.get("").dispatcher.scheduler.running == 0


async def test_a_cancelled_call_frees_its_slot(served: tuple[Stub, ModelRegistry]) -> None:
    stub, models = served
    slow(models, 0.01)
    calls = [stub.GenerateStream(pb.GenerateStreamRequest(request=asking("endless")), timeout=30) for _ in range(2)]
    for call in calls:
        await call.read()
    scheduler = models.get("").dispatcher.scheduler
    assert scheduler.running == 2
    for call in calls:
        call.cancel()
    began = time.monotonic()
    async with asyncio.timeout(5):
        while scheduler.running:  # noqa: ASYNC110 - the scheduler is pure
            await asyncio.sleep(0.005)
    assert time.monotonic() - began < 1


async def test_a_full_queue_refuses_at_once_and_nobody_hangs(served: tuple[Stub, ModelRegistry]) -> None:
    stub, models = served
    slow(models, 0.02)

    async def ask() -> str:
        try:
            with translate_errors("inference"):
                await stub.Generate(asking("endless", sampling=pb.Sampling(max_tokens=10)), timeout=20)
        except Overloaded as refused:
            return "refused" if refused.retry_after_seconds > 0 else "refused without saying for how long"
        return "served"

    results = await asyncio.gather(*(ask() for _ in range(30)))
    assert results.count("served") >= 5
    assert results.count("refused") >= 20
    stats = await stub.GetStats(pb.GetStatsRequest(), timeout=10)
    assert (stats.queued, stats.running, stats.queue_capacity) == (0, 0, 3)
    assert stats.finished == results.count("served")
    assert stats.refused == results.count("refused")
    assert stats.generated_tokens == 10 * stats.finished


async def test_models_are_listed_loaded_replaced_and_unloaded(stub: Stub, tmp_path: Path) -> None:
    (listed,) = (await stub.ListModels(pb.ListModelsRequest(), timeout=10)).models
    assert (listed.name, listed.engine, listed.is_default) == ("scripted", "scripted", True)
    inside = "models/errand-tiny"
    loaded = await stub.LoadModel(pb.LoadModelRequest(name="second", path=inside), timeout=10)
    assert not loaded.model.is_default
    assert (await stub.Generate(asking("Hello", model="second"), timeout=10)).model == "second"
    with pytest.raises(Conflict), translate_errors("inference"):
        await stub.LoadModel(pb.LoadModelRequest(name="third", path=inside), timeout=10)
    await stub.UnloadModel(pb.UnloadModelRequest(name="second"), timeout=10)
    for error, call in (
        (ModelUnavailable, stub.Generate(asking("Hello", model="second"), timeout=10)),
        (NotFound, stub.UnloadModel(pb.UnloadModelRequest(name="second"), timeout=10)),
        (Conflict, stub.UnloadModel(pb.UnloadModelRequest(name="scripted"), timeout=10)),
        (PermissionDenied, stub.LoadModel(pb.LoadModelRequest(name="x", path=str(tmp_path)), timeout=10)),
        (ModelUnavailable, stub.Embed(pb.EmbedRequest(texts=["x"]), timeout=10)),
    ):
        with pytest.raises(error), translate_errors("inference"):
            await call


async def test_only_an_operator_changes_models(stub: Stub, keys: TestKeys) -> None:
    user = Principal("default", "u", frozenset({"user"}), frozenset({"chat"}), "r")
    with acting_as(user, signer=keys.signer), pytest.raises(PermissionDenied), translate_errors("inference"):
        await stub.UnloadModel(pb.UnloadModelRequest(name="scripted"), timeout=10)


async def test_without_a_token_nothing_is_served(served: tuple[Stub, ModelRegistry], keys: TestKeys) -> None:
    servicer = Registration(
        inference_pb2_grpc.add_InferenceServiceServicer_to_server,
        servicer_of(served[1]),
        SERVICE_NAME,
    )
    async with rpc_pair([servicer], keys) as channel:
        metadata = grpc.aio.Metadata(("authorization", "Bearer nonsense"))
        call = inference_pb2_grpc.InferenceServiceStub(channel).ListModels(
            pb.ListModelsRequest(), timeout=10, metadata=metadata
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_tokens_are_counted(stub: Stub) -> None:
    response = await stub.CountTokens(pb.CountTokensRequest(texts=["one", "one two three"]), timeout=10)
    assert list(response.counts) == [1, 3]
    assert response.context_tokens == 4096
