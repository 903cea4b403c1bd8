"""The real process: loads the real engine, answers, needs no torch, ends at SIGTERM."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from errand.inference.v1 import inference_pb2 as pb
from errand.inference.v1 import inference_pb2_grpc
from errand_common.rpc.client import acting_as, create_channel
from errand_common.testing.keys import TestKeys, free_port, principal
from errand_inference.testing.cross_encoder import make_cross_encoder
from grpc_health.v1 import health_pb2, health_pb2_grpc

COMMAND = [sys.executable, "-m", "errand_inference"]


@pytest.fixture
def environment(tiny_model: Path, tiny_openvino: Path, keys: TestKeys, tmp_path: Path) -> dict[str, str]:
    """Settings whose models are converted already."""
    return {
        **os.environ,
        "ERRAND_INFERENCE_PORT": str(free_port()),
        "ERRAND_INFERENCE_JWKS": str(keys.jwks_file),
        "ERRAND_INFERENCE_MODEL_NAME": "tiny",
        "ERRAND_INFERENCE_MODEL_PATH": str(tiny_model),
        "ERRAND_INFERENCE_CACHE_DIR": str(tiny_openvino.parent.parent),
        "ERRAND_INFERENCE_DATA_DIR": str(tmp_path),
        "ERRAND_INFERENCE_RERANKER_PATH": str(make_cross_encoder(tmp_path / "word-counter", ["cat"])),
    }


@pytest.fixture
async def process(environment: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    await asyncio.to_thread(subprocess.run, [*COMMAND, "prepare"], env=environment, check=True)
    started = await asyncio.create_subprocess_exec(
        *COMMAND, "serve", env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    yield started
    if started.returncode is None:
        started.kill()
        await started.wait()


async def test_serves_and_ends(
    process: asyncio.subprocess.Process, environment: dict[str, str], keys: TestKeys
) -> None:
    async with create_channel(f"127.0.0.1:{environment['ERRAND_INFERENCE_PORT']}") as channel:
        await _until_serving(health_pb2_grpc.HealthStub(channel))
        assert "libtorch" not in await asyncio.to_thread(_mapped_files, process.pid)
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        with acting_as(principal(), signer=keys.signer):
            request = pb.GenerateRequest(
                messages=[pb.Message(user=pb.UserMessage(text="Hello"))],
                tools=[pb.ToolDeclaration(name="rest")],
                tool_choice=pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_REQUIRED, single_call=True),
            )
            response = await stub.Generate(request, timeout=30)
            assert [call.name for call in response.calls] == ["rest"]
            texts = ["A cat sits on the mat.", "A kitten rests on a rug.", "Stocks fell sharply.", "", "word " * 2000]
            embedded = await stub.Embed(pb.EmbedRequest(texts=texts), timeout=30)
            reranked = await stub.Rerank(pb.RerankRequest(query="cat", texts=["a dog", "a cat"]), timeout=30)
            listed = await stub.ListModels(pb.ListModelsRequest(), timeout=10)
            (model,) = listed.models
    vectors = np.array([list(embedding.values) for embedding in embedded.embeddings])
    assert vectors.shape == (5, embedded.dimensions)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]
    assert embedded.model == "all-MiniLM-L6-v2"
    assert reranked.scores[0] < reranked.scores[1]
    assert list(listed.reranking_models) == [reranked.model] == ["word-counter"]
    assert (model.name, model.engine, model.precision) == ("tiny", "openvino", "fp32")
    process.send_signal(signal.SIGTERM)
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, errors.decode()
    assert all(json.loads(line)["service"] == "inference" for line in output.decode().splitlines())


def _mapped_files(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")


async def _until_serving(health: health_pb2_grpc.HealthStub) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=1)
            except Exception:
                await asyncio.sleep(0.05)
                continue
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
            await asyncio.sleep(0.05)


def test_bad_settings_are_named(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [*COMMAND, "serve"],
        env={**environment, "ERRAND_INFERENCE_ENGINE": "magic"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "ERRAND_INFERENCE_ENGINE" in done.stderr


def test_a_model_that_is_not_there_ends_the_conversion_with_one_line(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [*COMMAND, "convert", "/nowhere"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.strip() == "errand_inference: There is no model folder /nowhere."
