"""Models that stand in for each other, over real gRPC: fallbacks, shadows, attempts, what an engine cannot do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from errand.inference.v1 import inference_pb2 as pb
from errand.inference.v1 import inference_pb2_grpc
from errand_common.errors import ModelUnavailable, Unsupported
from errand_common.rpc.client import acting_as, translate_errors
from errand_common.rpc.server import Registration
from errand_common.testing.keys import TestKeys, principal
from errand_common.testing.rpc import rpc_pair
from errand_inference.app import SERVICE_NAME
from errand_inference.domain.generation import Generation
from errand_inference.domain.reliability import Reliability
from errand_inference.metrics import PrometheusObserver
from errand_inference.registry import ModelRegistry
from errand_inference.settings import InferenceSettings, ModelSettings
from errand_inference.shadow import Shadows
from errand_inference.testing.provider import Provider, Reply, serving_provider
from errand_inference.transport.servicer import InferenceServicer
from prometheus_client import REGISTRY

if TYPE_CHECKING:
    Stub = inference_pb2_grpc.InferenceServiceAsyncStub

REPLIES = [Reply("weather", calls=(("weather", '{"city": "Oslo"}'),)), Reply("Hello", "Hello from far away.")]
TOOL = pb.ToolDeclaration(
    name="weather", parameters_json='{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}'
)


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serving_provider(Provider(REPLIES, key="hush")) as made:
        yield made


@pytest.fixture
async def stub(tmp_path: Path, keys: TestKeys, provider: Provider) -> AsyncIterator[Stub]:
    script = tmp_path / "script.json"
    script.write_text(json.dumps([{"pattern": "Hello", "output": "Hello from here."}]))
    remote = ModelSettings(engine="remote", url=provider.url, remote_model="large", fallbacks=("here",))
    settings = InferenceSettings(
        engine="scripted",
        script_file=script,
        model_name="here",
        data_dir=tmp_path,
        models={"here": ModelSettings(shadow="far", shadow_percent=100), "far": remote, "locked": remote},
        provider_keys={"far": "hush", "locked": "wrong"},  # type: ignore[dict-item]
    )
    models = ModelRegistry(settings)
    await models.load_named()
    generation = Generation(PrometheusObserver(), Reliability(pause_seconds=0.001))
    shadows = Shadows(models, generation)
    servicer = InferenceServicer(models, generation, None, shadows)
    registration = Registration(inference_pb2_grpc.add_InferenceServiceServicer_to_server, servicer, SERVICE_NAME)
    async with rpc_pair([registration], keys) as channel:
        with acting_as(principal(), signer=keys.signer):
            yield inference_pb2_grpc.InferenceServiceStub(channel)
    await shadows.close()
    await models.close()


def asking(text: str, model: str = "", **fields: object) -> pb.GenerateRequest:
    messages = [pb.Message(user=pb.UserMessage(text=text))]
    return pb.GenerateRequest(messages=messages, tools=[TOOL], model=model, **fields)  # type: ignore[arg-type]


async def test_a_provider_answers_like_a_model_of_ours(stub: Stub, provider: Provider) -> None:
    response = await stub.Generate(asking("weather", "far"), timeout=20)
    assert [(call.name, call.arguments_json) for call in response.calls] == [("weather", '{"city": "Oslo"}')]
    assert (response.model, response.attempts) == ("far", 1)
    assert response.usage.completion_tokens == 5
    listed = {model.name: model for model in (await stub.ListModels(pb.ListModelsRequest(), timeout=10)).models}
    assert listed["far"].engine == "remote"
    assert pb.CAPABILITY_EXACT_TOKENS not in listed["far"].capabilities
    assert "hush" not in str(listed)


@pytest.mark.parametrize(("model", "failures", "attempts"), [("far", [503, 503, 503], 4), ("locked", [], 2)])
async def test_the_fallback_answers_and_is_named(
    stub: Stub, provider: Provider, model: str, failures: list[int], attempts: int
) -> None:
    provider.failures = failures
    response = await stub.Generate(asking("Hello", model), timeout=20)
    assert (response.text, response.model, response.attempts) == ("Hello from here.", "here", attempts)


async def test_a_shadow_is_asked_and_compared_and_nobody_waits_for_it(stub: Stub, provider: Provider) -> None:
    def different() -> float:
        labels = {"model": "far", "result": "different"}
        return REGISTRY.get_sample_value("llm_shadow_requests_total", labels) or 0.0

    before = different()
    response = await stub.Generate(asking("Hello"), timeout=20)
    assert (response.text, response.model) == ("Hello from here.", "here")
    async with asyncio.timeout(20):
        while different() == before:  # noqa: ASYNC110 - a metric has no event
            await asyncio.sleep(0.01)
    assert len(provider.asked) == 1


async def test_log_probabilities_are_refused_where_an_engine_has_none(stub: Stub) -> None:
    with pytest.raises(Unsupported, match="logprobs"), translate_errors("inference"):
        await stub.Generate(asking("Hello", sampling=pb.Sampling(logprobs=True)), timeout=20)


async def test_an_unknown_model_is_named(stub: Stub) -> None:
    with pytest.raises(ModelUnavailable, match="nobody"), translate_errors("inference"):
        await stub.Generate(asking("Hello", "nobody"), timeout=20)
