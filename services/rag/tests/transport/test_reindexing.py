"""Indexes built anew under searches, repairs, and what is left on disk: over real gRPC and Chroma."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from errand.rag.v1 import rag_pb2
from errand_common.errors import Conflict, ModelUnavailable, PermissionDenied
from errand_common.testing.keys import TestKeys
from errand_rag.domain.models import Embeddings, VectorEntry
from errand_rag.settings import RagSettings
from errand_rag.storage import collections as stored_collections
from errand_rag.storage import documents as stored_documents
from errand_rag.storage.chroma import ChromaVectorStore
from errand_rag.testing.client import RagClient
from errand_rag.testing.embedder import HashingEmbedder
from errand_rag.testing.service import serving_rag

VECTOR = rag_pb2.SEARCH_MODE_VECTOR


class TwoModels(HashingEmbedder):
    """Serves the models "small" and "large", whose vectors differ in width; "small" is the default."""

    gate: asyncio.Event | None = None

    async def embed(self, texts: Sequence[str], *, model: str) -> Embeddings:
        if model == "unknown":
            raise ModelUnavailable("no such model", model=model)
        if model == "large" and self.gate:
            await self.gate.wait()
        self.texts.extend(texts)
        width = 512 if model == "large" else 64
        vectors = tuple(HashingEmbedder(width).vector(text) for text in texts)
        return Embeddings(vectors=vectors, model=model or "small")


@pytest.fixture
def embedder() -> TwoModels:
    return TwoModels()


@pytest.fixture
async def vectors(settings: RagSettings) -> ChromaVectorStore:
    return ChromaVectorStore.embedded(settings.chroma_folder)


@pytest.fixture
async def client(
    settings: RagSettings,
    keys: TestKeys,
    embedder: TwoModels,
    vectors: ChromaVectorStore,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[RagClient]:
    monkeypatch.setattr(stored_collections, "_OLD_INDEX_SECONDS", 0.0)
    async with serving_rag(settings, keys, embedder=embedder, vectors=vectors) as client:
        await client.collection("shelf")
        yield client


async def reindex(client: RagClient, model: str = "") -> rag_pb2.Collection:
    with client.calling() as stub:
        request = rag_pb2.ReindexCollectionRequest(id="shelf", embedding_model=model)
        return (await stub.ReindexCollection(request)).collection


async def shelf(client: RagClient) -> rag_pb2.Collection:
    with client.calling() as stub:
        return (await stub.GetCollection(rag_pb2.GetCollectionRequest(id="shelf"))).collection


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await true():  # noqa: ASYNC110 - it changes in the background
            await asyncio.sleep(0.05)


async def built(client: RagClient) -> bool:
    return not (await shelf(client)).HasField("reindex")


async def reconcile(client: RagClient, *, dry_run: bool = False) -> rag_pb2.ReconcileCollectionResponse:
    with client.calling() as stub:
        return await stub.ReconcileCollection(rag_pb2.ReconcileCollectionRequest(id="shelf", dry_run=dry_run))


async def test_another_model_is_switched_to_when_complete_and_searches_never_miss(
    client: RagClient, embedder: TwoModels, vectors: ChromaVectorStore
) -> None:
    await client.ingest("shelf", "a.txt", "The hotel costs 120 euros.")
    embedder.gate = asyncio.Event()
    began = await reindex(client, "large")
    assert (began.embedding_model, began.reindex.embedding_model, began.reindex.chunks_total) == ("small", "large", 1)
    with pytest.raises(Conflict):
        await reindex(client)
    # A document that arrives meanwhile is found at once, and after the switch too.
    await client.ingest("shelf", "b.txt", "The train leaves at noon.")
    for query, name in (("hotel", "a.txt"), ("train", "b.txt")):
        assert (await client.search(query, "shelf", mode=VECTOR, top_k=1)).hits[0].filename == name
    embedder.gate.set()
    await until(lambda: built(client))
    after = await shelf(client)
    assert after.embedding_model == "large"
    for query, name in (("hotel", "a.txt"), ("train", "b.txt")):
        assert (await client.search(query, "shelf", mode=VECTOR, top_k=1)).hits[0].filename == name
    assert (await client.ingest("shelf", "c.txt", "A ship.")).state == rag_pb2.DOCUMENT_STATE_READY

    async def old_is_gone() -> bool:
        return await vectors.count(after.id) == 0

    await until(old_is_gone)
    assert await vectors.count(f"{after.id}-g1") == 3


async def test_a_model_that_is_not_served_leaves_the_index_as_it_is(client: RagClient) -> None:
    await client.ingest("shelf", "a.txt", "A hotel.")
    await reindex(client, "unknown")
    await until(lambda: built(client))
    assert (await shelf(client)).embedding_model == "small"
    assert (await client.search("hotel", "shelf", mode=VECTOR)).hits


async def test_the_same_model_copies_vectors_and_embeds_nothing(client: RagClient, embedder: TwoModels) -> None:
    await client.ingest("shelf", "a.txt", "A hotel.")
    embedded = len(embedder.texts)
    await reindex(client)
    await until(lambda: built(client))
    assert len(embedder.texts) == embedded
    assert (await client.search("hotel", "shelf", mode=VECTOR)).hits


async def test_deleted_text_and_its_vector_are_nowhere_on_disk_after_compaction(
    client: RagClient, settings: RagSettings
) -> None:
    await client.ingest("shelf", "kept.txt", "The kept sentence stays.")
    document = await client.ingest("shelf", "canary.txt", "The zanzibarcanary sentence must vanish.")
    needle = np.asarray(
        HashingEmbedder(64).vector("canary.txt\nThe zanzibarcanary sentence must vanish."), dtype=np.float32
    ).tobytes()
    assert holders(settings.data_dir, needle), "the canary's vector is looked for in the form it is stored"
    with client.calling() as stub:
        deleted = await stub.DeleteDocument(rag_pb2.DeleteDocumentRequest(id=document.id))
    await reindex(client)

    async def clean() -> bool:
        return not holders(settings.data_dir, needle) and not holders(settings.data_dir, b"zanzibarcanary")

    await until(clean)
    assert not (await client.search("zanzibarcanary", "shelf", mode=rag_pb2.SEARCH_MODE_KEYWORD)).hits
    hits = (await client.search("zanzibarcanary sentence", "shelf")).hits
    assert [hit.filename for hit in hits] == ["kept.txt"]
    with client.calling() as stub:
        proven = rag_pb2.GetDeletionCertificateRequest(id=deleted.certificate.id)
        said = [
            await stub.ListDocuments(rag_pb2.ListDocumentsRequest(collection_id="shelf")),
            await stub.GetCollection(rag_pb2.GetCollectionRequest(id="shelf")),
            await stub.GetDeletionCertificate(proven),
            await stub.ListDeletionCertificates(rag_pb2.ListDeletionCertificatesRequest()),
            await client.search("sentence", "shelf", top_k=50),
        ]
    assert not any("canary" in str(answer) for answer in said)


def holders(folder: Path, needle: bytes) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and needle in path.read_bytes()]


async def test_reconciling_embeds_what_is_missing_and_removes_what_is_dead(
    client: RagClient, vectors: ChromaVectorStore
) -> None:
    await client.ingest("shelf", "a.txt", "A hotel.")
    index = (await shelf(client)).id
    await vectors.delete_chunks(index, list(await vectors.chunk_documents(index)))
    await vectors.upsert(index, [VectorEntry("chk_dead", "doc_dead", HashingEmbedder(64).vector("ghost"))])
    seen = await reconcile(client, dry_run=True)
    assert (seen.missing_vectors, seen.dead_vectors, seen.consistent) == (1, 1, False)
    repaired = await reconcile(client)
    assert (repaired.missing_vectors, repaired.dead_vectors, repaired.consistent) == (1, 1, True)
    assert (await reconcile(client, dry_run=True)).consistent
    assert (await client.search("hotel", "shelf", mode=VECTOR)).hits


async def test_reconciling_drops_indexes_that_a_restored_store_has_back(
    client: RagClient, vectors: ChromaVectorStore
) -> None:
    await client.ingest("shelf", "a.txt", "A hotel.")
    index = (await shelf(client)).id
    ghost = VectorEntry("chk_ghost", "doc_ghost", HashingEmbedder(64).vector("ghost"))
    for name in (f"{index}-g7", f"{index}0-g1"):  # a generation of this collection, and another collection's
        await vectors.upsert(name, [ghost])
    assert (await reconcile(client, dry_run=True)).dead_vectors == 1
    assert await vectors.count(f"{index}-g7") == 1
    assert (await reconcile(client)).dead_vectors == 1

    async def dropped() -> bool:
        return await vectors.indexes({index}) == {index}

    await until(dropped)
    assert (await reconcile(client, dry_run=True)).consistent
    assert await vectors.count(f"{index}0-g1") == 1
    assert (await client.search("hotel", "shelf", mode=VECTOR)).hits


async def test_reconciling_drops_indexes_of_deleted_collections_that_a_restored_store_has_back(
    client: RagClient, vectors: ChromaVectorStore
) -> None:
    await client.ingest("shelf", "a.txt", "A hotel.")
    deleted = await client.collection("attic")
    with client.calling() as stub:
        await stub.DeleteCollection(rag_pb2.DeleteCollectionRequest(id="attic"))
    other = "col_of_another_tenant"
    for name in (deleted.id, f"{deleted.id}-g1", other):
        await vectors.upsert(name, [VectorEntry("chk_ghost", "doc_ghost", HashingEmbedder(64).vector("ghost"))])
    assert (await reconcile(client, dry_run=True)).dead_vectors == 2
    assert await vectors.indexes({deleted.id}) == {deleted.id, f"{deleted.id}-g1"}
    assert (await reconcile(client)).dead_vectors == 2
    assert await vectors.indexes({deleted.id, other}) == {other}
    assert (await reconcile(client, dry_run=True)).consistent
    assert (await client.search("hotel", "shelf", mode=VECTOR)).hits


async def test_an_index_with_many_dead_vectors_is_built_anew_by_itself(
    client: RagClient, vectors: ChromaVectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_documents, "_MIN_DEAD_VECTORS", 3)
    for number in range(4):
        await client.ingest("shelf", "price.txt", f"The price is {number} euros.")

    async def compacted() -> bool:
        return await vectors.count(f"{(await shelf(client)).id}-g1") == 1

    await until(compacted)
    assert len((await client.search("price", "shelf", mode=VECTOR)).hits) == 1


async def test_only_writers_reindex(client: RagClient) -> None:
    with client.calling() as stub:
        wanted = rag_pb2.Collection(name="other", writer_roles=["editor"])
        await stub.CreateCollection(rag_pb2.CreateCollectionRequest(collection=wanted))
    user = client.principal.__class__("default", "bob", frozenset({"user"}), frozenset({"documents"}))
    asking = RagClient(client.channel, user, client.signer)
    with pytest.raises(PermissionDenied), asking.calling() as stub:
        await stub.ReindexCollection(rag_pb2.ReindexCollectionRequest(id="other"))
