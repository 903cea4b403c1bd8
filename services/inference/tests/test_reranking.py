"""A cross-encoder that the test makes, alone and over real gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from errand.inference.v1 import inference_pb2 as pb
from errand.inference.v1 import inference_pb2_grpc
from errand_common.errors import InvalidArgument, ModelUnavailable
from errand_common.rpc.client import acting_as, translate_errors
from errand_common.rpc.server import Registration
from errand_common.testing.keys import TestKeys, principal
from errand_common.testing.rpc import rpc_pair
from errand_inference.app import SERVICE_NAME
from errand_inference.domain.generation import Generation
from errand_inference.metrics import PrometheusObserver
from errand_inference.registry import ModelRegistry
from errand_inference.reranking import WINDOW_TOKENS, CrossEncoder
from errand_inference.settings import InferenceSettings
from errand_inference.shadow import Shadows
from errand_inference.testing.cross_encoder import make_cross_encoder
from errand_inference.transport.servicer import InferenceServicer
from prometheus_client import REGISTRY

if TYPE_CHECKING:
    Stub = inference_pb2_grpc.InferenceServiceAsyncStub
WORDS = ("hotel", "oslo", "price", "train", "leave", "days")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_cross_encoder(tmp_path / "word-counter", WORDS)


@pytest.fixture
async def encoder(folder: Path) -> AsyncIterator[CrossEncoder]:
    encoder = CrossEncoder(folder, threads=1)
    yield encoder
    encoder.close()


async def test_the_text_that_answers_best_has_the_highest_score(encoder: CrossEncoder) -> None:
    texts = ["the train", "price of a hotel", "Oslo: hotel price list", ""]
    scores, tokens = await encoder.score("hotel price oslo", texts)
    assert sorted(range(4), key=lambda index: -scores[index])[:2] == [2, 1]
    assert scores[0] == scores[3] < 0.5 < scores[2] < 1.0
    # Three words, three marks, and the words of the texts: nothing that only fills up is counted.
    assert tokens == 4 * 6 + 2 + 4 + 5 + 0


async def test_each_text_has_its_own_score_whatever_else_is_asked(encoder: CrossEncoder) -> None:
    texts = [" ".join(["hotel"] * (number % 7) + ["oslo"] * (number % 3) + ["filler"] * number) for number in range(50)]
    together, _ = await encoder.score("hotel oslo", texts)
    alone = [(await encoder.score("hotel oslo", [text]))[0][0] for text in texts]
    assert together == pytest.approx(alone, abs=1e-6)


async def test_of_a_pair_that_is_too_long_the_text_is_cut(encoder: CrossEncoder) -> None:
    late = " ".join(["filler"] * WINDOW_TOKENS + ["hotel"])
    scores, tokens = await encoder.score("hotel", [late, "hotel"])
    assert scores[0] < 0.5 < 1.0 - scores[0]
    assert tokens == WINDOW_TOKENS + 5


def test_a_folder_without_one_is_refused_with_the_cure(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelUnavailable, match="optimum-cli export onnx"):
        CrossEncoder(tmp_path)
    (folder / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ModelUnavailable, match="cannot be read as a cross-encoder"):
        CrossEncoder(folder)


def test_the_hubs_own_layout_is_read(folder: Path) -> None:
    (folder / "onnx").mkdir()
    (folder / "model.onnx").rename(folder / "onnx" / "model.onnx")
    encoder = CrossEncoder(folder)
    assert encoder.name == "word-counter"
    encoder.close()


@pytest.fixture
async def stub(
    request: pytest.FixtureRequest, keys: TestKeys, tmp_path: Path, encoder: CrossEncoder
) -> AsyncIterator[Stub]:
    models = ModelRegistry(InferenceSettings(engine="scripted", data_dir=tmp_path, jwks=str(keys.jwks_file)))
    generation = Generation(PrometheusObserver())
    served = encoder if getattr(request, "param", True) else None
    servicer = InferenceServicer(models, generation, None, Shadows(models, generation), reranker=served)
    registration = Registration(inference_pb2_grpc.add_InferenceServiceServicer_to_server, servicer, SERVICE_NAME)
    async with rpc_pair([registration], keys) as channel:
        with acting_as(principal(), signer=keys.signer):
            yield cast("Stub", inference_pb2_grpc.InferenceServiceStub(channel))


async def test_it_is_served(stub: Stub) -> None:
    before = REGISTRY.get_sample_value("llm_reranked_texts_total") or 0.0
    answer = await stub.Rerank(pb.RerankRequest(query="hotel oslo", texts=["a train", "a hotel in oslo"]), timeout=10)
    assert answer.model == "word-counter"
    assert answer.scores[0] < 0.5 <= answer.scores[1]
    assert REGISTRY.get_sample_value("llm_reranked_texts_total") == before + 2
    assert answer.usage.prompt_tokens == 16
    with translate_errors("inference"), pytest.raises(ModelUnavailable, match="not a cross-encoder"):
        await _asked(stub, pb.RerankRequest(model="other", query="q", texts=["t"]))
    with pytest.raises(InvalidArgument):
        await _asked(stub, pb.RerankRequest(query="q"))


@pytest.mark.parametrize("stub", [False], indirect=True)
async def test_without_one_the_cure_is_named(stub: Stub) -> None:
    with pytest.raises(ModelUnavailable, match="ERRAND_INFERENCE_RERANKER_PATH"):
        await _asked(stub, pb.RerankRequest(query="q", texts=["t"]))


async def _asked(stub: Stub, request: pb.RerankRequest) -> None:
    with translate_errors("inference"):
        await stub.Rerank(request, timeout=10)
