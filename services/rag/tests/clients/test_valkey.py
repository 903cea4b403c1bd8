"""The embedding cache that replicas share, on a real Redis, and what holds while it is away."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
import valkey.asyncio as valkey
from errand.rag.v1 import rag_pb2
from errand_common.errors import Unavailable
from errand_common.principal import acting_as
from errand_common.testing.keys import TestKeys, free_port, principal
from errand_rag.clients.valkey import SharedCachingEmbedder, ValkeyVectors
from errand_rag.settings import RagSettings
from errand_rag.testing.embedder import MODEL, HashingEmbedder
from errand_rag.testing.service import serving_rag
from errand_rag.testing.vectors import InMemoryVectorStore
from pydantic import SecretStr, ValidationError

DAY_SECONDS = 86_400


@pytest.fixture
async def redis(redis_server: str) -> AsyncIterator[valkey.Valkey]:
    """The server, empty."""
    client = valkey.Valkey.from_url(f"valkey://{redis_server}/0")
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def replica(redis_server: str) -> AsyncIterator[Callable[..., SharedCachingEmbedder]]:
    """Makes the cache of one more replica; texts are counted by what became of them in `counts`."""
    opened: list[ValkeyVectors] = []

    def make(inner: HashingEmbedder, counts: Counter[str] | None = None) -> SharedCachingEmbedder:
        vectors = ValkeyVectors(f"valkey://{redis_server}/0", ttl_seconds=DAY_SECONDS)
        opened.append(vectors)
        counter: Counter[str] = Counter() if counts is None else counts
        return SharedCachingEmbedder(inner, vectors, on_lookup=lambda result, texts: counter.update({result: texts}))

    yield make
    for vectors in opened:
        await vectors.close()


async def test_replicas_embed_a_text_once_and_get_the_same_vector(
    redis: valkey.Valkey, replica: Callable[..., SharedCachingEmbedder]
) -> None:
    first, second, counts = HashingEmbedder(), HashingEmbedder(), Counter[str]()
    with acting_as(principal("acme")):
        made = await replica(first).embed(["a whale", "a ship"], model=MODEL)
        again = await replica(second, counts).embed(["a ship", "new", "a whale", "a ship"], model=MODEL)
    assert second.texts == ["new"]
    assert counts == {"hit": 2, "miss": 1}
    assert again.model == MODEL
    whale, ship = (pytest.approx(vector, abs=1e-7) for vector in made.vectors)
    assert list(again.vectors) == [ship, second.vector("new"), whale, ship]


async def test_tenants_and_models_share_nothing(
    redis: valkey.Valkey, replica: Callable[..., SharedCachingEmbedder]
) -> None:
    inner = HashingEmbedder()
    cache = replica(inner)
    for tenant, model in (("acme", MODEL), ("globex", MODEL), ("acme", "other")):
        inner.model = model
        with acting_as(principal(tenant)):
            await cache.embed(["a whale"], model=model)
    assert inner.calls == 3


async def test_the_default_model_is_asked_for_and_remembered_by_its_name(
    redis: valkey.Valkey, replica: Callable[..., SharedCachingEmbedder]
) -> None:
    inner = HashingEmbedder()
    cache = replica(inner)
    with acting_as(principal()):
        await cache.embed(["a"], model="")
        inner.model = "newer"
        assert (await cache.embed(["a"], model="")).model == "newer"
        assert (await cache.embed(["a"], model=MODEL)).model == MODEL
    assert inner.calls == 2


async def test_keys_are_short_hold_no_text_and_end(
    redis: valkey.Valkey, replica: Callable[..., SharedCachingEmbedder]
) -> None:
    with acting_as(principal("acme*[?")):
        await replica(HashingEmbedder()).embed(["secret words " * 5000, "b"], model=MODEL)
    keys = await redis.keys()
    assert len(keys) == 2
    for key in keys:
        assert len(key) == 114
        assert 0 < await redis.ttl(key) <= DAY_SECONDS
        assert len(await redis.get(key)) == 384 * 4


async def test_a_tenant_is_forgotten_whole_and_alone(
    redis: valkey.Valkey, redis_server: str, replica: Callable[..., SharedCachingEmbedder]
) -> None:
    texts = [f"text {number}" for number in range(2500)]
    for tenant in ("acme", "globex"):
        with acting_as(principal(tenant)):
            await replica(HashingEmbedder(8)).embed(texts, model=MODEL)
    vectors = ValkeyVectors(f"redis://{redis_server}/0", ttl_seconds=60)
    await vectors.forget("acme")
    assert await vectors.get("acme", MODEL, texts) == {}
    assert len(await vectors.get("globex", MODEL, texts)) == 2500
    await vectors.close()


async def test_while_it_is_away_texts_are_embedded_and_it_is_not_asked_for_each() -> None:
    inner, counts, now = HashingEmbedder(), Counter[str](), [0.0]
    vectors = ValkeyVectors(f"valkey://127.0.0.1:{free_port()}/0", ttl_seconds=60, clock=lambda: now[0])
    cache = SharedCachingEmbedder(inner, vectors, on_lookup=lambda result, texts: counts.update({result: texts}))
    with acting_as(principal()):
        assert (await cache.embed(["a", "b"], model=MODEL)).vectors == (inner.vector("a"), inner.vector("b"))
    assert counts == {"away": 2}
    with pytest.raises(Unavailable):
        await vectors.forget("acme")
    await vectors.close()


async def test_deleted_text_leaves_it_and_the_proof_waits_while_it_is_away(
    redis: valkey.Valkey, redis_server: str, settings: RagSettings, keys: TestKeys, embedder: HashingEmbedder
) -> None:
    url = SecretStr(f"valkey://{redis_server}/0")
    settings = settings.model_copy(update={"embedding_cache_url": url})
    async with serving_rag(settings, keys, embedder=embedder, vectors=InMemoryVectorStore()) as client:
        await client.collection("shelf")
        await client.ingest("shelf", "first.txt", "The canary sings.")
        document = await client.ingest("shelf", "a.txt", "The whale dives.")
        assert len(await redis.keys()) == 2
        # A writer of this name is refused: to a client that is as good as away.
        await redis.config_set("maxclients", "1")
        await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with client.calling() as stub:
            made = (await stub.DeleteDocument(rag_pb2.DeleteDocumentRequest(id=document.id))).certificate
        assert not made.complete
        await redis.config_set("maxclients", "100")
        assert (await client.proven(made.id)).complete
        assert await redis.keys() == []


@pytest.mark.parametrize("url", ["memory://", "http://cache:6379", "cache:6379"])
def test_what_is_no_server_is_refused_without_showing_a_password(settings: RagSettings, url: str) -> None:
    with pytest.raises(ValidationError, match="valkey://:PASSWORD@HOST:6379/0"):
        RagSettings.model_validate({**settings.model_dump(), "embedding_cache_url": url})


async def test_many_texts_at_once_wait_for_a_connection_and_all_are_answered(
    redis: valkey.Valkey, replica: Callable[..., SharedCachingEmbedder]
) -> None:
    cache, counts = HashingEmbedder(8), Counter[str]()
    shared = replica(cache, counts)
    with acting_as(principal()):
        made = await asyncio.gather(*(shared.embed([f"text {n % 10}"], model=MODEL) for n in range(200)))
    assert counts["away"] == 0
    assert [m.vectors[0] for m in made[190:]] == [pytest.approx(cache.vector(f"text {n}")) for n in range(10)]
