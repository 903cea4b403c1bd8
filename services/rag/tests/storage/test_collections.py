"""Collections are a tenant's own."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from errand_common.db import Database
from errand_common.errors import AlreadyExists, NotFound, QuotaExceeded
from errand_rag.domain.models import CollectionChange, Job, JobKind, NewCollection, Quota
from errand_rag.storage.collections import SqlCollections
from errand_rag.storage.documents import SqlDocuments
from errand_rag.storage.jobs import SqlJobs
from errand_rag.storage.reading import Queries, Rows
from errand_rag.testing.records import ingested, make_collection, upload_of


async def test_found_by_id_and_by_name_in_its_tenant_alone(collections: SqlCollections) -> None:
    made = await make_collection(collections, "handbook")
    assert await collections.get("acme", made.id) == made
    assert await collections.get("acme", "handbook") == made
    with pytest.raises(NotFound):
        await collections.get("other", made.id)
    with pytest.raises(NotFound):
        await collections.get("other", "handbook")


async def test_a_name_is_unique_in_its_tenant(collections: SqlCollections) -> None:
    await make_collection(collections, "handbook")
    await make_collection(collections, "handbook", tenant="other")
    with pytest.raises(AlreadyExists):
        await make_collection(collections, "handbook")


async def test_a_tenant_has_only_so_many(collections: SqlCollections) -> None:
    await make_collection(collections, "one")
    with pytest.raises(QuotaExceeded):
        await collections.create("acme", NewCollection(name="two", chunk_tokens=200), limit=1)


async def test_pages_come_oldest_first_and_end(collections: SqlCollections) -> None:
    made = [(await make_collection(collections, f"c-{number}")).id for number in range(5)]
    found: list[str] = []
    position = None
    for _ in range(3):
        page = await collections.list_page("acme", size=2, position=position)
        found += [item.id for item in page.items]
        position = page.next_position
    assert found == sorted(made)
    assert position is None


async def test_resolving_names_the_unknown_one(collections: SqlCollections) -> None:
    one, two = await make_collection(collections, "one"), await make_collection(collections, "two")
    assert await collections.resolve("acme", ["two", one.id, "one"]) == (two, one)
    assert {c.id for c in await collections.resolve("acme", [])} == {one.id, two.id}
    with pytest.raises(NotFound) as raised:
        await collections.resolve("acme", ["one", "three"])
    assert raised.value.metadata["id"] == "three"


async def test_what_is_remembered_of_them_ends_with_the_next_commit_of_any_process(
    database: Database, collections: SqlCollections, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await make_collection(collections, "one")
    read: list[str] = []
    rows = Queries.rows

    async def counted(self: Queries, tenant_id: str, *query: Any) -> Rows:
        read.append(tenant_id)
        return await rows(self, tenant_id, *query)

    monkeypatch.setattr(Queries, "rows", counted)
    for _ in range(3):
        assert (await collections.resolve("acme", ["one"]))[0].id == made.id
    with pytest.raises(NotFound):
        await collections.resolve("other", ["one"])
    assert len(read) == (4 if database.is_postgres else 2)
    elsewhere = SqlCollections(database, owner="elsewhere")
    await elsewhere.update("acme", made.id, CollectionChange(reader_roles=frozenset({"chief"})))
    assert (await collections.resolve("acme", ["one"]))[0].reader_roles == {"chief"}
    await elsewhere.delete("acme", made.id, principal_id="u")
    with pytest.raises(NotFound):
        await collections.resolve("acme", ["one"])


async def test_only_ready_documents_are_counted(collections: SqlCollections, documents: SqlDocuments) -> None:
    made = await make_collection(collections, "one")
    ready, _ = await documents.add("acme", upload_of(made, "a.txt", "a"), principal_id="u", quota=Quota(9, 0))
    await documents.add("acme", upload_of(made, "b.txt", "b"), principal_id="u", quota=Quota(9, 0))
    await documents.complete("acme", ingested(ready.id, "a"), principal_id="u")
    assert (await collections.get("acme", "one")).document_count == 1


async def test_deleting_removes_everything_and_leaves_a_job_for_the_vectors(
    collections: SqlCollections, documents: SqlDocuments
) -> None:
    made = await make_collection(collections, "one")
    document, _ = await documents.add("acme", upload_of(made, "a.txt", "a"), principal_id="u", quota=Quota(9, 0))
    await documents.complete("acme", ingested(document.id, "a"), principal_id="u")
    job = await collections.delete("acme", "one", principal_id="u")
    assert (job.kind, job.collection_id) == (JobKind.PURGE_COLLECTION, made.id)
    with pytest.raises(NotFound):
        await collections.get("acme", made.id)
    with pytest.raises(NotFound):
        await documents.get("acme", document.id)


async def test_an_index_that_waits_to_be_dropped_is_known_and_its_name_is_not_used_again(
    collections: SqlCollections, jobs: SqlJobs
) -> None:
    made = await make_collection(collections, "one")
    await collections.start_building("acme", made.id, "model", principal_id="u")
    await collections.abandon_building("acme", made.id, principal_id="u")
    again = await collections.start_building("acme", made.id, "model", principal_id="u")
    assert (made.index, again.building_index) == (made.id, f"{made.id}-g2")
    assert await collections.indexes("acme", made.id) == {made.id, f"{made.id}-g1", f"{made.id}-g2"}
    while (job := await jobs.claim("me", lease_seconds=60)) is not None:
        await jobs.done(job.id, "me")
    assert await collections.indexes("acme", made.id) == {made.id, f"{made.id}-g2"}


async def test_deleting_a_collection_makes_its_waiting_purges_due(collections: SqlCollections, jobs: SqlJobs) -> None:
    made = await make_collection(collections, "one")
    await collections.start_building("acme", made.id, "model", principal_id="u")
    await collections.finish_building("acme", made.id, frozenset(), principal_id="u")
    own = await collections.delete("acme", made.id, principal_id="u")
    due = [job.index async for job in _claimed(jobs) if job.kind is JobKind.PURGE_COLLECTION]
    assert (own.index, due) == (f"{made.id}-g1", [made.id])


async def _claimed(jobs: SqlJobs) -> AsyncIterator[Job]:
    while (job := await jobs.claim("me", lease_seconds=60)) is not None:
        yield job
