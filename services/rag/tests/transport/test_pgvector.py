"""The service with its vectors in Postgres, over real gRPC: what a document goes through, once."""

from collections.abc import AsyncIterator

import pytest
from errand.rag.v1 import rag_pb2
from errand_common.testing.keys import TestKeys
from errand_rag.settings import RagSettings
from errand_rag.testing.client import RagClient
from errand_rag.testing.embedder import HashingEmbedder
from errand_rag.testing.service import serving_rag


@pytest.fixture
async def client(
    settings: RagSettings, pgvector_url: str, keys: TestKeys, embedder: HashingEmbedder
) -> AsyncIterator[RagClient]:
    chosen = RagSettings(**{**settings.model_dump(), "database_url": pgvector_url, "vector_store": "pgvector"})
    async with serving_rag(chosen, keys, embedder=embedder) as client:
        yield client


async def test_documents_are_found_rebuilt_and_deleted_with_proof(client: RagClient) -> None:
    await client.collection("shelf")
    whale = await client.ingest("shelf", "whale.txt", "The blue whale sings in the deep.")
    fox = await client.ingest("shelf", "fox.txt", "A red fox runs over the snow.")
    assert (whale.state, fox.state) == (rag_pb2.DOCUMENT_STATE_READY,) * 2
    for mode in (rag_pb2.SEARCH_MODE_VECTOR, rag_pb2.SEARCH_MODE_HYBRID):
        found = await client.search("whale sings", "shelf", mode=mode)
        assert (found.hits[0].filename, found.degraded) == ("whale.txt", False)
    with client.calling() as stub:
        await stub.ReindexCollection(rag_pb2.ReindexCollectionRequest(id="shelf"))
        deleted = await stub.DeleteDocument(rag_pb2.DeleteDocumentRequest(id=whale.id))
        # The new index may be on its way: what it still holds is pending, never said to be found for good.
        certificate = await client.proven(deleted.certificate.id)
        proofs = {proof.place: (proof.found, proof.pending) for proof in certificate.proofs}
        assert proofs["vectors"] == (0, False)
        emptied = await stub.DeleteCollection(rag_pb2.DeleteCollectionRequest(id="shelf"))
        assert (await client.proven(emptied.certificate.id)).complete
