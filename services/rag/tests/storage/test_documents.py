"""Documents: duplicates, versions, states."""

from dataclasses import replace

import pytest
from errand_common.db import Database
from errand_common.errors import Conflict, NotFound, QuotaExceeded
from errand_rag.domain.errors import DocumentRejected
from errand_rag.domain.models import Document, DocumentState, JobKind, NewCollection, Quota
from errand_rag.storage.collections import SqlCollections
from errand_rag.storage.documents import SqlDocuments
from errand_rag.storage.jobs import SqlJobs
from errand_rag.storage.passages import SqlPassages
from errand_rag.testing.records import ingested, make_collection, passages_with, upload_of


class Library:
    """One collection of one tenant, with short names for what tests do."""

    def __init__(
        self, documents: SqlDocuments, passages: SqlPassages, collection_id: str, collections: SqlCollections
    ) -> None:
        self.documents, self.passages, self.id, self.collections = documents, passages, collection_id, collections

    async def add(self, filename: str, text: str, *, limit: int = 100, max_bytes: int = 0) -> tuple[Document, bool]:
        collection = await self.collections.get("acme", self.id)
        return await self.documents.add(
            "acme", upload_of(collection, filename, text), principal_id="u", quota=Quota(limit, max_bytes)
        )

    async def finish(self, document: Document, *texts: str) -> None:
        await self.documents.complete("acme", ingested(document.id, *texts), principal_id="u")

    async def words(self, word: str) -> list[str]:
        return [p.text for p in await passages_with(self.passages, [self.id], [word], 10)]


@pytest.fixture
async def library(documents: SqlDocuments, passages: SqlPassages, collections: SqlCollections) -> Library:
    return Library(documents, passages, (await make_collection(collections, "lib")).id, collections)


async def test_an_upload_is_stored_with_its_job(library: Library, jobs: SqlJobs) -> None:
    document, duplicate = await library.add("a.txt", "hello")
    assert (document.state, duplicate, document.size_bytes) == (DocumentState.PENDING, False, 5)
    assert await library.documents.content("acme", document.id) == b"hello"
    job = await jobs.claim("w", lease_seconds=60)
    assert job is not None
    assert (job.kind, job.document_id, job.tenant_id, job.principal_id) == (JobKind.INGEST, document.id, "acme", "u")


async def test_the_same_bytes_are_a_duplicate_whatever_their_name(library: Library, jobs: SqlJobs) -> None:
    first, _ = await library.add("a.txt", "hello")
    again, duplicate = await library.add("b.txt", "hello")
    assert (again.id, duplicate) == (first.id, True)
    await jobs.claim("w", lease_seconds=60)
    assert await jobs.claim("w", lease_seconds=60) is None


async def test_a_failed_document_uploaded_again_is_tried_again(library: Library, jobs: SqlJobs) -> None:
    first, _ = await library.add("a.txt", "hello")
    await library.documents.fail("acme", first.id, "inference is away")
    again, duplicate = await library.add("a.txt", "hello")
    assert (again.id, duplicate, again.state, again.failure) == (first.id, False, DocumentState.PENDING, "")


async def test_a_new_version_takes_the_place_of_the_old_at_once(library: Library, jobs: SqlJobs) -> None:
    old, _ = await library.add("a.txt", "one")
    await library.finish(old, "old text")
    new, _ = await library.add("a.txt", "two")
    assert await library.words("text") == ["old text"]
    await library.finish(new, "new text")
    assert await library.words("text") == ["new text"]
    with pytest.raises(NotFound):
        await library.documents.get("acme", old.id)
    kinds = [job.kind for _ in range(3) if (job := await jobs.claim("w", lease_seconds=60))]
    assert sorted(kinds) == [JobKind.INGEST, JobKind.INGEST, JobKind.PURGE_DOCUMENT]


async def test_an_older_version_that_ends_later_gives_way(library: Library) -> None:
    old, _ = await library.add("a.txt", "one")
    new, _ = await library.add("a.txt", "two")
    await library.finish(new, "new text")
    with pytest.raises(NotFound):
        await library.finish(old, "old text")
    assert await library.words("text") == ["new text"]


async def test_going_back_to_former_content_is_not_taken_for_a_duplicate(library: Library) -> None:
    first, _ = await library.add("a.txt", "one")
    await library.finish(first, "one")
    second, _ = await library.add("a.txt", "two")
    third, duplicate = await library.add("a.txt", "one")
    assert not duplicate
    await library.finish(second, "two")
    await library.finish(third, "one")
    assert await library.words("one") == ["one"]
    assert await library.words("two") == []


async def test_a_document_deleted_during_ingestion_does_not_come_back(library: Library) -> None:
    document, _ = await library.add("a.txt", "one")
    assert await library.documents.progress("acme", document.id, 10)
    await library.documents.delete("acme", document.id, principal_id="u")
    assert not await library.documents.progress("acme", document.id, 50)
    with pytest.raises(NotFound):
        await library.finish(document, "one")
    assert await library.words("one") == []


async def test_a_ready_document_keeps_text_that_offsets_point_into(library: Library) -> None:
    document, _ = await library.add("a.txt", "raw")
    await library.finish(document, "First passage.", "Second passage.")
    text = await library.documents.clean_text("acme", document.id)
    for passage in await passages_with(library.passages, [library.id], ["passage"], 10):
        assert passage.text == text[passage.start : passage.end]
    ready = await library.documents.get("acme", document.id)
    assert (ready.state, ready.progress_percent, ready.chunk_count, ready.title) == (
        DocumentState.READY,
        100,
        2,
        "Title",
    )


async def test_only_a_failed_one_is_tried_again(library: Library) -> None:
    document, _ = await library.add("a.txt", "one")
    with pytest.raises(Conflict):
        await library.documents.retry("acme", document.id, principal_id="u")
    await library.documents.fail("acme", document.id, "x" * 5000)
    assert len((await library.documents.get("acme", document.id)).failure) == 1000
    assert (await library.documents.retry("acme", document.id, principal_id="u")).state is DocumentState.PENDING


async def test_vectors_of_two_models_do_not_meet_in_a_collection(library: Library) -> None:
    one, _ = await library.add("a.txt", "one")
    two, _ = await library.add("b.txt", "two")
    await library.finish(one, "one")
    with pytest.raises(DocumentRejected, match="model-a"):
        await library.documents.complete("acme", ingested(two.id, "two", model="model-b"), principal_id="u")


async def test_a_tenant_has_only_so_many_documents(library: Library) -> None:
    await library.add("a.txt", "one", limit=1)
    with pytest.raises(QuotaExceeded):
        await library.add("b.txt", "two", limit=1)


async def test_another_tenant_sees_and_changes_nothing(library: Library) -> None:
    document, _ = await library.add("a.txt", "one")
    await library.finish(document, "one")
    for call in (
        library.documents.get("other", document.id),
        library.documents.content("other", document.id),
        library.documents.delete("other", document.id, principal_id="x"),
        library.documents.retry("other", document.id, principal_id="x"),
    ):
        with pytest.raises(NotFound):
            await call
    assert not await library.documents.progress("other", document.id, 5)
    assert not await library.passages.by_keywords("other", [library.id], ["one"], 10)
    assert (await library.documents.list_page("other", library.id, size=5, position=None)).items == ()


async def test_pages_come_newest_first(library: Library) -> None:
    made = [(await library.add(f"{n}.txt", str(n)))[0].id for n in range(5)]
    first = await library.documents.list_page("acme", library.id, size=3, position=None)
    rest = await library.documents.list_page("acme", library.id, size=3, position=first.next_position)
    assert [d.id for d in (*first.items, *rest.items)] == sorted(made, reverse=True)
    assert rest.next_position is None


async def test_many_chunks_are_stored_in_one_transaction(library: Library, database: Database) -> None:
    document, _ = await library.add("a.txt", "one")
    await library.finish(document, *(f"passage number{n}" for n in range(5000)))
    assert await library.words("number4999") == ["passage number4999"]


async def test_bytes_past_the_tenants_quota_are_refused(library: Library) -> None:
    await library.add("a.txt", "12345", max_bytes=8)
    with pytest.raises(QuotaExceeded, match="8 bytes"):
        await library.add("b.txt", "1234", max_bytes=8)
    await library.add("c.txt", "123", max_bytes=8)


async def test_a_collection_has_quotas_of_its_own(documents: SqlDocuments, collections: SqlCollections) -> None:
    small = await collections.create("acme", NewCollection("small", chunk_tokens=200, max_documents=1), limit=9)
    await documents.add("acme", upload_of(small, "a", "1"), principal_id="u", quota=Quota(9, 99))
    with pytest.raises(QuotaExceeded, match="'small' may hold 1 documents"):
        await documents.add("acme", upload_of(small, "b", "2"), principal_id="u", quota=Quota(9, 99))
    light = await collections.create("acme", NewCollection("light", chunk_tokens=200, max_bytes=3), limit=9)
    with pytest.raises(QuotaExceeded, match="3 bytes"):
        await documents.add("acme", upload_of(light, "a", "1234"), principal_id="u", quota=Quota(9, 99))


async def test_a_cancelled_document_is_neither_finished_nor_failed_until_it_is_retried(library: Library) -> None:
    document, _ = await library.add("a.txt", "hello")
    assert (await library.documents.cancel("acme", document.id)).state is DocumentState.CANCELLED
    assert not await library.documents.progress("acme", document.id, 50)
    with pytest.raises(NotFound):
        await library.finish(document, "hello")
    await library.documents.fail("acme", document.id, "too late")
    with pytest.raises(Conflict):
        await library.documents.cancel("acme", document.id)
    assert (await library.documents.get("acme", document.id)).state is DocumentState.CANCELLED
    assert (await library.documents.retry("acme", document.id, principal_id="u")).state is DocumentState.PENDING


async def test_an_attempt_that_goes_on_leaves_what_another_finished(library: Library) -> None:
    document, _ = await library.add("a.txt", "hello")
    await library.finish(document, "hello")
    assert await library.documents.progress("acme", document.id, 20)
    await library.documents.fail("acme", document.id, "late")
    await library.finish(document, "hello")
    found = await library.documents.get("acme", document.id)
    assert (found.state, found.progress_percent, found.failure) == (DocumentState.READY, 100, "")
    assert await library.words("hello") == ["hello"]


async def test_documents_are_listed_by_state(library: Library) -> None:
    bad, _ = await library.add("a.txt", "one")
    await library.add("b.txt", "two")
    await library.documents.fail("acme", bad.id, "unreadable")
    page = await library.documents.list_page("acme", library.id, size=9, position=None, state=DocumentState.FAILED)
    assert [document.filename for document in page.items] == ["a.txt"]


async def test_urgent_documents_are_taken_first(library: Library, jobs: SqlJobs) -> None:
    collection = await library.collections.get("acme", library.id)
    for name, priority in (("slow", 0), ("urgent", 9), ("soon", 5)):
        upload = replace(upload_of(collection, name, name), priority=priority)
        await library.documents.add("acme", upload, principal_id="u", quota=Quota(9, 0))
    order = [await jobs.claim("w", lease_seconds=60) for _ in range(3)]
    names = [(await library.documents.get("acme", job.document_id)).filename for job in order if job]
    assert names == ["urgent", "soon", "slow"]


async def test_the_same_bytes_again_with_other_metadata_take_the_new(library: Library) -> None:
    collection = await library.collections.get("acme", library.id)
    upload = upload_of(collection, "a", "a")
    for year in (2024.0, 2025.0):
        stored, _ = await library.documents.add(
            "acme", replace(upload, metadata={"year": year}), principal_id="u", quota=Quota(9, 0)
        )
    assert (await library.documents.get("acme", stored.id)).metadata == {"year": 2025.0}
