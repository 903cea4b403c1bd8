"""The embedder adapter over real gRPC, and its cache."""

from collections.abc import AsyncIterator, Sequence

import pytest
from errand_common.errors import ModelUnavailable, NotFound, Unavailable
from errand_common.principal import Principal, acting_as
from errand_common.rpc.client import acting_as as acting_with_token
from errand_common.rpc.client import create_channel
from errand_common.telemetry.metrics import LLM_FAILURES
from errand_common.testing.keys import TestKeys, free_port, principal
from errand_common.testing.rpc import serving
from errand_rag.clients.inference import CachingEmbedder, InferenceEmbedder
from errand_rag.domain.models import Embeddings
from errand_rag.testing.embedder import MODEL, HashingEmbedder
from errand_rag.testing.inference import FakeInference


@pytest.fixture
def inference() -> FakeInference:
    return FakeInference()  # type: ignore[abstract]  # only Embed is called


@pytest.fixture
async def embedder(inference: FakeInference, keys: TestKeys) -> AsyncIterator[InferenceEmbedder]:
    async with serving([inference.registration], keys) as target, create_channel(target) as channel:
        yield InferenceEmbedder(channel, keys.signer, timeout_seconds=10)


async def test_background_work_calls_as_the_documents_tenant(
    embedder: InferenceEmbedder, inference: FakeInference
) -> None:
    with acting_as(Principal("acme", "ada", scopes=frozenset({"documents"}))):
        made = await embedder.embed(["one", "two"], model="")
    assert (len(made.vectors), made.model) == (2, MODEL)
    assert (inference.callers[0].tenant_id, inference.callers[0].id) == ("acme", "ada")


async def test_a_callers_own_token_goes_along(
    embedder: InferenceEmbedder, inference: FakeInference, keys: TestKeys
) -> None:
    with acting_with_token(principal("globex", "bob"), signer=keys.signer):
        await embedder.embed(["one"], model="m")
    assert inference.callers[0].id == "bob"


async def test_an_unknown_model_is_not_mistaken_for_a_missing_document(
    embedder: InferenceEmbedder, inference: FakeInference
) -> None:
    inference.fault = NotFound("model", "m")
    with acting_as(principal()), pytest.raises(ModelUnavailable):
        await embedder.embed(["one"], model="m")


async def test_a_service_that_is_away_is_unavailable(keys: TestKeys) -> None:
    before = LLM_FAILURES.labels("rag")._value.get()
    async with create_channel(f"127.0.0.1:{free_port()}") as channel:
        with acting_as(principal()), pytest.raises(Unavailable):
            await InferenceEmbedder(channel, keys.signer, timeout_seconds=5).embed(["one"], model="")
    assert LLM_FAILURES.labels("rag")._value.get() - before == 1


async def embed(cache: CachingEmbedder, *texts: str, model: str = "") -> Embeddings:
    return await cache.embed(texts, model=model)


async def test_the_cache_embeds_a_text_once_and_keeps_the_order() -> None:
    inner = HashingEmbedder()
    cache = CachingEmbedder(inner, max_entries=10)
    await embed(cache, "a", "b")
    made = await embed(cache, "b", "c", "a", "c")
    assert inner.texts == ["a", "b", "c"]
    assert list(made.vectors) == [inner.vector(t) for t in ("b", "c", "a", "c")]


async def test_the_cache_is_bounded_and_drops_the_least_used() -> None:
    inner = HashingEmbedder()
    cache = CachingEmbedder(inner, max_entries=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        await embed(cache, text)
    assert inner.texts == ["a", "b", "c", "b"]


async def test_models_are_kept_apart_and_a_new_default_forgets_the_old() -> None:
    inner = HashingEmbedder()
    cache = CachingEmbedder(inner, max_entries=10)
    await embed(cache, "a", model="x")
    await embed(cache, "a", model="y")
    assert inner.calls == 2
    await embed(cache, "a")
    inner.model = "newer"
    made = await embed(cache, "a", "b")
    assert made.model == "newer"


async def test_a_fault_is_not_remembered() -> None:
    inner = HashingEmbedder()
    cache = CachingEmbedder(inner, max_entries=10)
    inner.fault = Unavailable("inference")
    with pytest.raises(Unavailable):
        await embed(cache, "a")
    inner.fault = None
    assert isinstance((await embed(cache, "a")).vectors, Sequence)
