"""Deletions while vectors of the deleted are on their way into a store: held there, then let go."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from errand.rag.v1 import rag_pb2
from errand_common.testing.keys import TestKeys
from errand_rag import app
from errand_rag.domain.models import VectorEntry
from errand_rag.settings import RagSettings
from errand_rag.storage.chroma import ChromaVectorStore
from errand_rag.storage.pgvector import PgVectorStore
from errand_rag.testing.client import RagClient
from errand_rag.testing.embedder import HashingEmbedder
from errand_rag.testing.service import serving_rag
from errand_rag.testing.vectors import InMemoryVectorStore

Store = ChromaVectorStore | PgVectorStore | InMemoryVectorStore


class Hold:
    """Holds one writing of vectors: its rows are read, nothing is stored yet."""

    def __init__(self, vectors: Store) -> None:
        self.reached, self._free, self._on = asyncio.Event(), asyncio.Event(), False
        self._store = vectors.upsert
        vectors.upsert = self._upsert  # type: ignore[method-assign]

    async def _upsert(self, collection_id: str, entries: Sequence[VectorEntry]) -> None:
        if self._on:
            self._on = False
            self.reached.set()
            await self._free.wait()
        await self._store(collection_id, entries)

    def begin(self) -> None:
        self._on = True

    def end(self) -> None:
        self._free.set()


@pytest.fixture
def store(request: pytest.FixtureRequest) -> str:
    return getattr(request, "param", "memory")


@pytest.fixture
def chosen(request: pytest.FixtureRequest, settings: RagSettings, store: str) -> RagSettings:
    if store != "pgvector":
        return settings
    url = request.getfixturevalue("pgvector_url")
    return RagSettings(**{**settings.model_dump(), "database_url": url, "vector_store": "pgvector"})


@pytest.fixture
def vectors(chosen: RagSettings, store: str) -> Store:
    return InMemoryVectorStore() if store == "memory" else app.open_vector_store(chosen)


@pytest.fixture
def hold(vectors: Store) -> Hold:
    return Hold(vectors)


@pytest.fixture
async def client(
    chosen: RagSettings, keys: TestKeys, embedder: HashingEmbedder, vectors: Store, hold: Hold
) -> AsyncIterator[RagClient]:
    async with serving_rag(chosen, keys, embedder=embedder, vectors=vectors) as client:
        await client.collection("shelf")
        yield client
        hold.end()


async def shelf(client: RagClient) -> rag_pb2.Collection:
    with client.calling() as stub:
        return (await stub.GetCollection(rag_pb2.GetCollectionRequest(id="shelf"))).collection


async def reindex(client: RagClient) -> None:
    with client.calling() as stub:
        await stub.ReindexCollection(rag_pb2.ReindexCollectionRequest(id="shelf"))


async def delete(client: RagClient, document_id: str) -> rag_pb2.DeletionCertificate:
    with client.calling() as stub:
        return (await stub.DeleteDocument(rag_pb2.DeleteDocumentRequest(id=document_id))).certificate


def vector_proof(certificate: rag_pb2.DeletionCertificate) -> tuple[int, bool]:
    return next((proof.found, proof.pending) for proof in certificate.proofs if proof.place == "vectors")


@pytest.mark.parametrize("store", ["memory", "chroma", "pgvector"], indirect=True)
async def test_a_document_deleted_while_a_new_index_copies_it_is_in_no_index(
    client: RagClient, vectors: Store, hold: Hold
) -> None:
    whale = await client.ingest("shelf", "whale.txt", "The blue whale sings.")
    hold.begin()
    await reindex(client)
    await hold.reached.wait()
    made = await delete(client, whale.id)
    assert vector_proof(made) == (0, True)
    hold.end()
    assert vector_proof(await client.proven(made.id)) == (0, False)
    id_ = (await shelf(client)).id
    assert [await vectors.count_document(index, whale.id) for index in (id_, f"{id_}-g1")] == [0, 0]


async def test_a_collection_deleted_while_a_new_index_is_filled_leaves_no_index(
    client: RagClient, vectors: Store, hold: Hold
) -> None:
    await client.ingest("shelf", "whale.txt", "The blue whale sings.")
    id_ = (await shelf(client)).id
    hold.begin()
    await reindex(client)
    await hold.reached.wait()
    with client.calling() as stub:
        made = (await stub.DeleteCollection(rag_pb2.DeleteCollectionRequest(id="shelf"))).certificate
    assert vector_proof(made) == (0, True)
    hold.end()
    assert (await client.proven(made.id)).complete
    assert [await vectors.count(index) for index in (id_, f"{id_}-g1")] == [0, 0]


async def test_a_document_deleted_while_it_is_ingested_leaves_no_vector(
    client: RagClient, vectors: Store, hold: Hold
) -> None:
    hold.begin()
    whale = (await client.upload("shelf", "whale.txt", "The blue whale sings.")).document
    await hold.reached.wait()
    made = await delete(client, whale.id)
    assert vector_proof(made) == (0, True)
    hold.end()
    assert vector_proof(await client.proven(made.id)) == (0, False)
    assert await vectors.count((await shelf(client)).id) == 0


async def test_a_document_deleted_while_a_reconciliation_embeds_it_leaves_no_vector(
    client: RagClient, vectors: Store, hold: Hold
) -> None:
    whale = await client.ingest("shelf", "whale.txt", "The blue whale sings.")
    index = (await shelf(client)).id
    await vectors.delete_document(index, whale.id)
    hold.begin()
    with client.calling() as stub:
        request = rag_pb2.ReconcileCollectionRequest(id="shelf")
        repairing = asyncio.ensure_future(stub.ReconcileCollection(request))
        await hold.reached.wait()
        made = await delete(client, whale.id)
        assert vector_proof(made) == (0, True)
        hold.end()
        await repairing
    assert vector_proof(await client.proven(made.id)) == (0, False)
    assert await vectors.count(index) == 0


async def test_a_document_deleted_after_the_switch_goes_from_the_old_index_too(
    client: RagClient, vectors: Store
) -> None:
    whale = await client.ingest("shelf", "whale.txt", "The blue whale sings.")
    fox = await client.ingest("shelf", "fox.txt", "A red fox runs.")
    await reindex(client)
    async with asyncio.timeout(30):
        while (await shelf(client)).HasField("reindex"):  # noqa: ASYNC110 - it changes in the background
            await asyncio.sleep(0.02)
    old = (await shelf(client)).id
    assert await vectors.count_document(old, whale.id) == 1
    made = await client.proven((await delete(client, whale.id)).id)
    assert vector_proof(made) == (0, False)
    assert [await vectors.count_document(old, id_) for id_ in (whale.id, fox.id)] == [0, 1]
