"""Metadata, filters, diversity, neighbours, batches, access, quotas, progress: over real gRPC."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest
from errand.rag.v1 import rag_pb2
from errand_common.errors import Conflict, InvalidArgument, NotFound, PermissionDenied, QuotaExceeded, Unavailable
from errand_common.testing.keys import TestKeys, principal
from errand_rag.settings import RagSettings
from errand_rag.testing.client import RagClient
from errand_rag.testing.embedder import HashingEmbedder
from errand_rag.testing.service import serving_rag

MODES = (rag_pb2.SEARCH_MODE_HYBRID, rag_pb2.SEARCH_MODE_VECTOR, rag_pb2.SEARCH_MODE_KEYWORD)
Value = rag_pb2.MetadataValue


@pytest.fixture
async def client(settings: RagSettings, keys: TestKeys, embedder: HashingEmbedder) -> AsyncIterator[RagClient]:
    async with serving_rag(settings, keys, embedder=embedder) as client:
        yield client


async def make(client: RagClient, **fields: object) -> rag_pb2.Collection:
    wanted = rag_pb2.Collection(name="shelf", **fields)  # type: ignore[arg-type]
    with client.calling() as stub:
        return (await stub.CreateCollection(rag_pb2.CreateCollectionRequest(collection=wanted))).collection


async def put(client: RagClient, name: str, text: str, metadata: Mapping[str, Value] | None = None) -> None:
    header = rag_pb2.UploadHeader(collection_id="shelf", filename=name, metadata=metadata or {})
    parts = [rag_pb2.UploadDocumentRequest(header=header), rag_pb2.UploadDocumentRequest(data=text.encode())]
    with client.calling() as stub:
        stored = await stub.UploadDocument(iter(parts))
    assert (await client.settled(stored.document.id)).state == rag_pb2.DOCUMENT_STATE_READY


def condition(field: str, operator: int, *values: Value) -> rag_pb2.Filter:
    return rag_pb2.Filter(condition=rag_pb2.Condition(field=field, operator=operator, values=values))  # type: ignore[arg-type]


async def ask(client: RagClient, text: str, **fields: object) -> list[rag_pb2.SearchHit]:
    request = rag_pb2.SearchRequest(query=text, collection_ids=["shelf"], **fields)  # type: ignore[arg-type]
    with client.calling() as stub:
        return list((await stub.Search(request)).hits)


async def test_every_mode_searches_only_what_the_filter_lets_through(client: RagClient) -> None:
    await make(client, metadata_schema={"year": rag_pb2.METADATA_TYPE_NUMBER})
    for year in (2023, 2024, 2025):
        await put(client, f"{year}.txt", f"The whale report of {year}.", {"year": Value(number_value=year)})
    recent = condition("year", rag_pb2.OPERATOR_GREATER, Value(number_value=2023))
    not_last = rag_pb2.FilterGroup(filters=[condition("filename", 1, Value(string_value="2025.txt"))])
    both = rag_pb2.Filter(all_of=rag_pb2.FilterGroup(filters=[recent, rag_pb2.Filter(none_of=not_last)]))
    for mode in MODES:
        hits = await ask(client, "whale report", mode=mode, filter=both)
        assert [hit.filename for hit in hits] == ["2024.txt"], mode
        assert hits[0].metadata["year"].number_value == 2024
        assert len(await ask(client, "whale report", mode=mode)) == 3, mode


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (rag_pb2.Filter(), "filter"),
        (condition("Year!", 1, Value(number_value=1)), "filter"),
        (condition("year", 0, Value(number_value=1)), "filter"),
        (condition("year", 1), "filter"),
        (condition("year", 1, Value()), "filter"),
        (condition("year", 1, Value(number_value=float("nan"))), "filter"),
        (rag_pb2.Filter(any_of=rag_pb2.FilterGroup()), "filter"),
    ],
)
async def test_filters_that_make_no_sense_are_refused(client: RagClient, bad: rag_pb2.Filter, field: str) -> None:
    await make(client)
    with pytest.raises(InvalidArgument) as raised:
        await ask(client, "x", filter=bad)
    assert raised.value.metadata["field"].startswith(field)


async def test_metadata_outside_the_schema_is_refused_before_the_bytes(client: RagClient) -> None:
    await make(client, metadata_schema={"year": rag_pb2.METADATA_TYPE_NUMBER})
    with pytest.raises(InvalidArgument, match="not in the collection's schema"):
        await put(client, "a.txt", "x", {"colour": Value(string_value="red")})


async def test_neighbours_are_the_chunks_around_a_hit(client: RagClient) -> None:
    await make(client, chunk_tokens=32)
    sentences = [f"Sentence {n} tells of {word} and of nothing else in the world at all." for n, word in ENUMERATED]
    await put(client, "long.txt", " ".join(sentences))
    alone, around = [(await ask(client, "garnet", top_k=1, neighbours=n))[0] for n in (0, 1)]
    assert "garnet" in alone.text
    assert (alone.text_before, alone.text_after) == ("", "")
    assert "copper" in around.text_before or "copper" in around.text
    whole = " ".join((around.text_before + around.text + around.text_after).split())
    assert len(whole) > len(around.text)


ENUMERATED = list(enumerate(["amber", "basalt", "copper", "garnet", "ivory", "jade", "marble", "opal"]))


async def test_a_batch_answers_each_query(client: RagClient, embedder: HashingEmbedder) -> None:
    await make(client)
    await put(client, "a.txt", "The hotel costs 120 euros.")
    await put(client, "b.txt", "The train leaves at noon.")
    calls = embedder.calls
    searches = [rag_pb2.SearchRequest(query=q, collection_ids=["shelf"], top_k=1) for q in ("train", "hotel", "euros")]
    with client.calling() as stub:
        answers = (await stub.SearchBatch(rag_pb2.SearchBatchRequest(searches=searches))).answers
    assert [answer.hits[0].filename for answer in answers] == ["b.txt", "a.txt", "a.txt"]
    assert embedder.calls == calls + 1
    with pytest.raises(InvalidArgument), client.calling() as stub:
        await stub.SearchBatch(rag_pb2.SearchBatchRequest())


async def test_roles_decide_who_reads_and_who_writes(client: RagClient) -> None:
    await make(client, reader_roles=["legal"], writer_roles=["editor"])
    await put(client, "a.txt", "The secret whale.")

    def role(*roles: str) -> RagClient:
        who = replace(client.principal, id="bob", roles=frozenset(roles), scopes=frozenset({"documents"}))
        return replace(client, principal=who)

    assert [hit.filename for hit in await ask(role("legal"), "whale")] == ["a.txt"]
    await put(role("editor"), "b.txt", "Another whale.")
    with pytest.raises(PermissionDenied):
        await put(role("legal"), "c.txt", "x")
    user = role("user")
    for refused in (ask(user, "whale"), put(user, "c.txt", "x")):
        with pytest.raises(NotFound):
            await refused
    assert not (await user.search("whale")).hits
    with user.calling() as stub:
        assert not (await stub.ListCollections(rag_pb2.ListCollectionsRequest())).collections
    found = (await ask(role("legal"), "whale"))[0]
    with pytest.raises(NotFound):
        await user.document(found.document_id)
    with pytest.raises(PermissionDenied), role("legal").calling() as stub:
        await stub.DeleteDocument(rag_pb2.DeleteDocumentRequest(id=found.document_id))


async def test_what_was_said_of_a_collection_is_changed_and_holds_at_once(client: RagClient) -> None:
    await make(client, description="Old.", reader_roles=["legal"], max_documents=1)
    developer = replace(client, principal=principal("default", "dev", roles=("developer",)))
    with pytest.raises(NotFound):
        await ask(developer, "whale")

    async def update(by: RagClient, **change: object) -> rag_pb2.Collection:
        request = rag_pb2.UpdateCollectionRequest(id="shelf", **change)  # type: ignore[arg-type]
        with by.calling() as stub:
            return (await stub.UpdateCollection(request)).collection

    with pytest.raises(NotFound):
        await update(developer, description="Mine.")
    await put(client, "a.txt", "A whale.")
    with pytest.raises(QuotaExceeded):
        await put(client, "b.txt", "Another whale.")
    changed = await update(client, reader_roles=rag_pb2.RoleList(), max_documents=0)
    assert (changed.description, list(changed.reader_roles), changed.document_count) == ("Old.", [], 1)
    await put(developer, "b.txt", "Another whale.")
    assert len(await ask(developer, "whale")) == 2
    with pytest.raises(InvalidArgument) as raised:
        await update(developer, writer_roles=rag_pb2.RoleList(roles=["legal"]))
    assert raised.value.metadata["field"] == "writer_roles"
    await update(client, description="", writer_roles=rag_pb2.RoleList(roles=["legal"]))
    with pytest.raises(PermissionDenied):
        await update(developer, description="Mine.")
    assert (await update(client)).description == ""


async def test_a_watcher_sees_the_way_to_the_end(client: RagClient) -> None:
    await make(client)
    document = (await client.upload("shelf", "a.txt", "A whale.")).document
    with client.calling() as stub:
        seen = [step.document async for step in stub.WatchDocument(rag_pb2.WatchDocumentRequest(id=document.id))]
    assert seen[-1].state == rag_pb2.DOCUMENT_STATE_READY
    assert [step.progress_percent for step in seen] == sorted(step.progress_percent for step in seen)
    with pytest.raises(NotFound), client.calling() as stub:
        async for _ in stub.WatchDocument(rag_pb2.WatchDocumentRequest(id="doc_gone")):
            pass


async def test_a_cancelled_ingestion_stays_so_until_it_is_retried(client: RagClient, embedder: HashingEmbedder) -> None:
    await make(client)
    embedder.fault = Unavailable("inference")
    document = (await client.upload("shelf", "a.txt", "A whale.")).document
    with client.calling() as stub:
        request = rag_pb2.CancelDocumentRequest(id=document.id)
        assert (await stub.CancelDocument(request)).document.state == rag_pb2.DOCUMENT_STATE_CANCELLED
    with pytest.raises(Conflict), client.calling() as stub:
        await stub.CancelDocument(request)
    embedder.fault = None
    await asyncio.sleep(0.3)
    assert (await client.document(document.id)).state == rag_pb2.DOCUMENT_STATE_CANCELLED
    with client.calling() as stub:
        assert (await stub.RetryDocuments(rag_pb2.RetryDocumentsRequest(collection_id="shelf"))).retried == 1
    assert (await client.settled(document.id)).state == rag_pb2.DOCUMENT_STATE_READY


async def test_dead_letters_are_listed_and_redriven(
    settings: RagSettings, keys: TestKeys, embedder: HashingEmbedder
) -> None:
    embedder.fault = Unavailable("inference")
    settings = settings.model_copy(update={"worker_max_attempts": 1})
    async with serving_rag(settings, keys, embedder=embedder) as client:
        await make(client)
        for name in ("a.txt", "b.txt"):
            await client.ingest("shelf", name, f"whale {name}")
        failed = rag_pb2.ListDocumentsRequest(collection_id="shelf", state=rag_pb2.DOCUMENT_STATE_FAILED)
        with client.calling() as stub:
            letters = (await stub.ListDocuments(failed)).documents
            embedder.fault = None
            assert all("not available" in letter.failure for letter in letters)
            assert (await stub.RetryDocuments(rag_pb2.RetryDocumentsRequest(collection_id="shelf"))).retried == 2
        for letter in letters:
            assert (await client.settled(letter.id)).state == rag_pb2.DOCUMENT_STATE_READY
        assert len(letters) == 2


async def test_a_document_tells_who_uploaded_it(client: RagClient) -> None:
    await make(client)
    stored = (await client.upload("shelf", "a.txt", "x")).document
    assert stored.uploaded_by == principal().id
