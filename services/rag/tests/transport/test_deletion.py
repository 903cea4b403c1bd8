"""Deletions and their certificates, over real gRPC."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
from errand.rag.v1 import rag_pb2
from errand_common.errors import InvalidArgument, NotFound, PermissionDenied, Unavailable
from errand_common.testing.keys import TestKeys, principal
from errand_rag.domain.models import VectorEntry
from errand_rag.settings import RagSettings
from errand_rag.testing.client import RagClient
from errand_rag.testing.embedder import HashingEmbedder
from errand_rag.testing.service import serving_rag
from errand_rag.testing.vectors import InMemoryVectorStore


@pytest.fixture
def vectors() -> InMemoryVectorStore:
    return InMemoryVectorStore()


@pytest.fixture
async def client(
    settings: RagSettings, keys: TestKeys, embedder: HashingEmbedder, vectors: InMemoryVectorStore
) -> AsyncIterator[RagClient]:
    async with serving_rag(settings, keys, embedder=embedder, vectors=vectors) as plain:
        owner = replace(plain.principal, roles=frozenset({"owner"}))
        client = replace(plain, principal=owner)
        await client.collection("shelf")
        yield client


async def delete(client: RagClient, document_id: str) -> rag_pb2.DeletionCertificate:
    with client.calling() as stub:
        return (await stub.DeleteDocument(rag_pb2.DeleteDocumentRequest(id=document_id))).certificate


async def certificate(client: RagClient, id_: str) -> rag_pb2.DeletionCertificate:
    with client.calling() as stub:
        request = rag_pb2.GetDeletionCertificateRequest(id=id_)
        return (await stub.GetDeletionCertificate(request)).certificate


async def delete_data(client: RagClient, **whose: str) -> rag_pb2.DeletionCertificate:
    with client.calling() as stub:
        return (await stub.DeleteData(rag_pb2.DeleteDataRequest(**whose))).certificate


async def test_a_certificate_tells_what_went_and_that_nothing_is_left(client: RagClient) -> None:
    document = await client.ingest("shelf", "a.txt", "A whale.")
    await client.search("whale", "shelf")  # leaves an answer in the cache
    made = await delete(client, document.id)
    assert (made.kind, made.target_id, made.requested_by) == ("document", document.id, client.principal.id)
    assert (made.documents, made.chunks, made.bytes, made.complete) == (1, 1, 8, True)
    proofs = {proof.place: (proof.looked_for, proof.found, proof.pending) for proof in made.proofs}
    assert proofs == dict.fromkeys(("rows", "keyword_index", "vectors", "caches"), (1, 0, False))
    assert await certificate(client, made.id) == made


async def test_without_the_vector_store_the_proof_is_pending_until_it_is_back(
    client: RagClient, vectors: InMemoryVectorStore
) -> None:
    document = await client.ingest("shelf", "a.txt", "A whale.")
    vectors.fault = Unavailable("chroma")
    made = await delete(client, document.id)
    assert not made.complete
    assert [proof.place for proof in made.proofs if proof.pending] == ["vectors"]
    assert not (await client.search("whale", "shelf")).hits
    vectors.fault = None
    again = await certificate(client, made.id)
    # Removed by the worker meanwhile, or still found: never certified while it is there.
    left = await vectors.count_document(document.collection_id, document.id)
    assert again.complete or left or any(proof.found for proof in again.proofs)


async def test_a_proof_that_finds_something_is_not_complete(client: RagClient, vectors: InMemoryVectorStore) -> None:
    document = await client.ingest("shelf", "a.txt", "A whale.")

    async def forgets_to_delete(collection_id: str, document_id: str) -> None:
        pass

    vectors.delete_document = forgets_to_delete  # type: ignore[method-assign]
    made = await delete(client, document.id)
    assert not made.complete
    assert {proof.place: proof.found for proof in made.proofs}["vectors"] == 1


async def test_a_collection_and_a_tenant_go_whole(client: RagClient, vectors: InMemoryVectorStore) -> None:
    await client.ingest("shelf", "a.txt", "A whale.")
    with client.calling() as stub:
        request = rag_pb2.DeleteCollectionRequest(id="shelf")
        made = (await stub.DeleteCollection(request)).certificate
    assert (made.kind, made.documents, made.complete) == ("collection", 1, True)
    for name in ("one", "two"):
        await client.collection(name)
        await client.ingest(name, "a.txt", f"A whale in {name}.")
    other = replace(client, principal=replace(principal("globex"), roles=frozenset({"owner"})))
    await other.collection("theirs")
    await other.ingest("theirs", "a.txt", "Their whale.")
    with pytest.raises(InvalidArgument):
        await delete_data(client, tenant_id="globex")
    gone = await delete_data(client, tenant_id=client.principal.tenant_id)
    assert (gone.kind, gone.documents, gone.complete) == ("tenant", 2, True)
    assert not (await client.search("whale")).hits
    assert len((await other.search("whale")).hits) == 1


async def test_what_one_person_uploaded_goes_and_the_rest_stays(client: RagClient) -> None:
    bob = replace(client, principal=replace(client.principal, id="bob", roles=frozenset()))
    await bob.ingest("shelf", "bob.txt", "Bob's whale.")
    await client.ingest("shelf", "mine.txt", "My whale.")
    with pytest.raises(PermissionDenied):
        await delete_data(bob, principal_id="bob")
    made = await delete_data(client, principal_id="bob")
    assert (made.kind, made.documents, made.complete) == ("principal", 1, True)
    assert [hit.filename for hit in (await client.search("whale", "shelf")).hits] == ["mine.txt"]


async def test_certificates_are_listed_newest_first_and_are_their_tenants_own(client: RagClient) -> None:
    made = [await delete(client, (await client.ingest("shelf", "a.txt", f"Whale {n}.")).id) for n in range(2)]
    with client.calling() as stub:
        listed = (await stub.ListDeletionCertificates(rag_pb2.ListDeletionCertificatesRequest())).certificates
    assert [item.id for item in listed] == [made[1].id, made[0].id]
    with pytest.raises(NotFound):
        await certificate(replace(client, principal=principal("globex")), made[0].id)


async def test_a_vector_store_that_fails_in_mid_ingestion_loses_and_doubles_nothing(
    client: RagClient, vectors: InMemoryVectorStore
) -> None:
    stored, calls = vectors.upsert, 0

    async def fails_once(collection_id: str, entries: Sequence[VectorEntry]) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Unavailable("chroma")
        await stored(collection_id, entries)

    vectors.upsert = fails_once  # type: ignore[method-assign]
    text = "\n\n".join(f"# Part {n}\n\nPassage {n} tells of whales." for n in range(50))
    document = await client.ingest("shelf", "long.md", text)
    assert (document.state, document.chunk_count) == (rag_pb2.DOCUMENT_STATE_READY, 50)
    assert await vectors.count(document.collection_id) == 50
