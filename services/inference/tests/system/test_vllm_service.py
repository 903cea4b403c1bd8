"""The whole service with a real vLLM, a server that is named or a library of its own: `make vllm-test`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import pytest_asyncio
from errand.inference.v1 import inference_pb2 as pb
from errand.inference.v1 import inference_pb2_grpc
from errand_common.rpc.client import acting_as, create_channel
from errand_common.testing.keys import TestKeys, free_port, principal
from grpc_health.v1 import health_pb2, health_pb2_grpc

URL = os.environ.get("ERRAND_TEST_VLLM_URL", "")
# Where vLLM is a library, it is in an environment of its own, and what is ours comes from another.
PACKAGES = os.environ.get("ERRAND_TEST_PACKAGES", "")
SERVE = (
    f"import site; site.addsitedir({PACKAGES!r}); from errand_inference.__main__ import main; raise SystemExit(main())"
)
LOADING_SECONDS = 120
pytestmark = [
    pytest.mark.skipif(not (URL or PACKAGES), reason="ERRAND_TEST_VLLM_URL names no vLLM server of the tiny model"),
    pytest.mark.timeout(LOADING_SECONDS + 60),
    pytest.mark.asyncio(loop_scope="module"),
]
SCHEMA = {
    "type": "object",
    "properties": {"unit": {"enum": ["meter", "mile"]}, "count": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["unit"],
}
TOOLS = [
    pb.ToolDeclaration(name="measure-it", description="Measures.", parameters_json=json.dumps(SCHEMA)),
    pb.ToolDeclaration(name="rest"),
]
REQUIRED, NONE = pb.TOOL_CHOICE_MODE_REQUIRED, pb.TOOL_CHOICE_MODE_NONE
if TYPE_CHECKING:
    Stub = inference_pb2_grpc.InferenceServiceAsyncStub


@pytest.fixture(scope="module")
def environment(tiny_model: Path, keys: TestKeys, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("vllm-service")
    reached = {"url": URL, "remote_model": "tiny"} if URL else {"compute": "f32"}
    model = {"engine": "vllm", "path": str(tiny_model), **reached}
    own = {
        "PORT": str(free_port()),
        "JWKS": str(keys.jwks_file),
        "MODEL_NAME": "tiny",
        "MODELS": json.dumps({"tiny": model}),
        "DATA_DIR": str(home),
        "CACHE_DIR": str(home / "cache"),
    }
    return {**os.environ, **{f"ERRAND_INFERENCE_{name}": value for name, value in own.items()}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stub(environment: dict[str, str]) -> AsyncIterator[Stub]:
    program = ["-c", SERVE] if PACKAGES else ["-m", "errand_inference"]
    process = await asyncio.create_subprocess_exec(sys.executable, *program, "serve", env=environment)
    try:
        async with create_channel(f"127.0.0.1:{environment['ERRAND_INFERENCE_PORT']}") as channel:
            await _until_serving(health_pb2_grpc.HealthStub(channel), process)
            yield inference_pb2_grpc.InferenceServiceStub(channel)
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 0


async def _until_serving(health: health_pb2_grpc.HealthStub, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(LOADING_SECONDS):
        while process.returncode is None:
            try:
                answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=1)
            except Exception:
                answer = None
            if answer and answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
            await asyncio.sleep(0.05)
    pytest.fail("the service ended while it started")


def asked(text: str, *, mode: pb.ToolChoiceMode = NONE, tokens: int = 200, **fields: object) -> pb.GenerateRequest:
    return pb.GenerateRequest(
        messages=[pb.Message(user=pb.UserMessage(text=text))],
        tools=TOOLS,
        tool_choice=pb.ToolChoice(mode=mode, single_call=True),
        sampling=pb.Sampling(max_tokens=tokens, temperature=1.0, seed=len(text)),
        **fields,  # type: ignore[arg-type]
    )


async def test_calls_are_streamed_and_valid_and_counted(stub: Stub, keys: TestKeys) -> None:
    with acting_as(principal(), signer=keys.signer):
        listed = await stub.ListModels(pb.ListModelsRequest(), timeout=10)
        streams = [
            stub.GenerateStream(pb.GenerateStreamRequest(request=asked(f"case {n}", mode=REQUIRED)), timeout=60)
            for n in range(32)
        ]
        told = await asyncio.gather(*(_read(stream) for stream in streams))
    assert [(model.name, model.engine) for model in listed.models] == [("tiny", "vllm")]
    for pieces in told:
        result = pieces[-1].result
        (call,) = result.calls
        assert [piece.call for piece in pieces[:-1]] == [call]
        assert call.name in {"measure-it", "rest"}
        if call.name == "measure-it":
            made = json.loads(call.arguments_json)
            assert made["unit"] in {"meter", "mile"}
            assert 0 <= made.get("count", 0) <= 99
        assert result.finish_reason == pb.FINISH_REASON_TOOL_CALLS
        assert result.usage.prompt_tokens > 0
        assert result.usage.completion_tokens > 0
        assert result.attempts == 1


async def _read(stream: object) -> list[pb.GenerateStreamResponse]:
    return [piece async for piece in stream]  # type: ignore[attr-defined]


async def test_the_named_tool_json_of_a_schema_length_and_log_probabilities(stub: Stub, keys: TestKeys) -> None:
    named = asked("named", mode=pb.TOOL_CHOICE_MODE_NAMED)
    named.tool_choice.name = "rest"
    shaped = asked("json", response_schema_json=json.dumps(SCHEMA))
    short = asked("a long story", tokens=5)
    short.sampling.logprobs = True
    with acting_as(principal(), signer=keys.signer):
        called, written, cut = await asyncio.gather(
            *(stub.Generate(request, timeout=60) for request in (named, shaped, short))
        )
    assert [call.name for call in called.calls] == ["rest"]
    assert json.loads(written.text)["unit"] in {"meter", "mile"}
    assert (cut.finish_reason, cut.usage.completion_tokens) == (pb.FINISH_REASON_LENGTH, 5)
    assert len(cut.logprobs) == 5
    assert all(entry.logprob <= 0 for entry in cut.logprobs)


async def test_a_prefix_that_was_read_is_told_as_cached(stub: Stub, keys: TestKeys) -> None:
    shared = {"instructions": "You measure things and rest afterwards. " * 6}
    with acting_as(principal(), signer=keys.signer):
        for text in ("one", "two"):
            answer = await stub.Generate(asked(text, tokens=4, **shared), timeout=60)
    assert 128 <= answer.usage.cached_tokens < answer.usage.prompt_tokens


async def test_a_cancelled_stream_frees_vllm_too(stub: Stub, keys: TestKeys) -> None:
    with acting_as(principal(), signer=keys.signer):
        streams = [
            stub.GenerateStream(pb.GenerateStreamRequest(request=asked(f"long {n}", tokens=800)), timeout=60)
            for n in range(4)
        ]
        await asyncio.gather(*(stream.read() for stream in streams))
        assert await _running(stub) > 0
        for stream in streams:
            stream.cancel()
        async with asyncio.timeout(10):
            while await _running(stub) > 0:  # noqa: ASYNC110 - what runs is in another process
                await asyncio.sleep(0.01)


async def _running(stub: Stub) -> float:
    """Generations that the service runs, and those that vLLM's server does."""
    running: float = (await stub.GetStats(pb.GetStatsRequest(), timeout=10)).running
    if not URL:
        return running
    async with httpx.AsyncClient(trust_env=False) as client:
        told = (await client.get(f"{URL.removesuffix('/v1')}/metrics")).text
    lines = [line for line in told.splitlines() if line.startswith("vllm:num_requests_running")]
    assert lines
    return max(running, *(float(line.rpartition(" ")[2]) for line in lines))


async def test_what_was_generated_until_the_deadline_is_told(stub: Stub, keys: TestKeys) -> None:
    # Text that the grammar forces, of more tokens than come about in a second, and no end before them.
    counted = {"type": "array", "items": {"const": " ".join(map(str, range(80)))}, "minItems": 16}
    with acting_as(principal(), signer=keys.signer):
        request = asked("count", tokens=900, response_schema_json=json.dumps(counted))
        answer = await stub.Generate(request, timeout=1.0)
    assert answer.finish_reason == pb.FINISH_REASON_DEADLINE
    assert answer.text.startswith('["0 1 2 ')
    assert 0 < answer.usage.completion_tokens < 900
