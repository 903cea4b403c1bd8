"""Keyword search: rank, safety, scope."""

import sqlite3
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa
from errand_common.db import Database
from errand_common.errors import Unavailable
from errand_rag.domain.keywords import query_terms
from errand_rag.domain.models import Quota
from errand_rag.storage import passages as stored_passages
from errand_rag.storage import reading
from errand_rag.storage.collections import SqlCollections
from errand_rag.storage.documents import SqlDocuments
from errand_rag.storage.passages import SqlPassages
from errand_rag.testing.records import ingested, make_collection, passages_with, upload_of


async def store(collections: SqlCollections, documents: SqlDocuments, name: str, *texts: str, heading: str = "") -> str:
    collection = await make_collection(collections, name)
    document, _ = await documents.add("acme", upload_of(collection, "a.txt", name), principal_id="u", quota=Quota(9, 0))
    await documents.complete("acme", ingested(document.id, *texts, heading=heading), principal_id="u")
    return collection.id


async def test_the_passage_with_more_of_the_words_comes_first(
    collections: SqlCollections, documents: SqlDocuments, passages: SqlPassages
) -> None:
    id_ = await store(collections, documents, "one", "A train to Oslo.", "A hotel in Oslo costs 120.", "Nothing here.")
    found = await passages.by_keywords("acme", [id_], ["hotel", "oslo"], 10)
    rows = await passages.by_ids("acme", [id_], found)
    assert [rows[chunk_id].text for chunk_id in found] == ["A hotel in Oslo costs 120.", "A train to Oslo."]
    best, second = found.values()
    assert best > second


async def test_word_forms_are_found(
    collections: SqlCollections, documents: SqlDocuments, passages: SqlPassages
) -> None:
    id_ = await store(collections, documents, "one", "Booking hotels early is cheaper.")
    assert len(await passages.by_keywords("acme", [id_], ["hotel", "booked"], 10)) == 1


async def test_headings_are_searched(
    collections: SqlCollections, documents: SqlDocuments, passages: SqlPassages
) -> None:
    id_ = await store(collections, documents, "one", "120 euros.", heading="Accommodation")
    assert len(await passages.by_keywords("acme", [id_], ["accommodation"], 10)) == 1


HOSTILE = ['"', "'", "NEAR(", "a AND", "* OR", "text:", "^", "-x", "a' | 'b", "(((", "\\", "x'); DROP TABLE chunks; --"]


async def test_no_query_is_a_syntax_error(
    collections: SqlCollections, documents: SqlDocuments, passages: SqlPassages
) -> None:
    id_ = await store(collections, documents, "one", "Some text about chunks and tables.")
    for query in (*HOSTILE, "{a b}: c", "日本", "\x00", "\\'", "tables\x00"):
        if terms := query_terms(query):
            await passages.by_keywords("acme", [id_], terms, 10)
        # Even a term that no tokeniser of ours would make is only a word.
        await passages.by_keywords("acme", [id_], [query], 10)
    assert len(await passages.by_keywords("acme", [id_], ["tables"], 10)) == 1


async def test_only_the_named_collections_are_searched(
    collections: SqlCollections, documents: SqlDocuments, passages: SqlPassages
) -> None:
    one = await store(collections, documents, "one", "Oslo one.")
    two = await store(collections, documents, "two", "Oslo two.")
    assert [p.text for p in await passages_with(passages, [one], ["oslo"], 10)] == ["Oslo one."]
    assert len(await passages.by_keywords("acme", [one, two], ["oslo"], 10)) == 2


async def test_a_chunk_whose_row_is_gone_is_not_found_by_id(
    collections: SqlCollections, documents: SqlDocuments, passages: SqlPassages
) -> None:
    id_ = await store(collections, documents, "one", "Oslo.")
    (chunk_id,) = await passages.by_keywords("acme", [id_], ["oslo"], 10)
    found = await passages.by_ids("acme", [id_], [chunk_id, "chk_gone"])
    assert set(found) == {chunk_id}
    assert (found[chunk_id].page, found[chunk_id].filename) == (1, "a.txt")
    assert await passages.by_ids("other", [id_], [chunk_id]) == {}


async def test_common_words_count_once_the_rare_ones_are_used_up(
    collections: SqlCollections, documents: SqlDocuments, passages: SqlPassages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_passages, "_MAX_RANKED", 3)
    common = [*(f"Invoice {n}." for n in range(5)), "Invoice and report.", *(f"Report {n}." for n in "abc")]
    id_ = await store(collections, documents, "one", "A zanzibar note.", *common)
    found = await passages.by_keywords("acme", [id_], ["invoice", "report", "zanzibar"], 5)
    rows = await passages.by_ids("acme", [id_], found)
    texts = [rows[chunk_id].text for chunk_id in found]
    # The rare word's first, then what holds both common ones, then the newest of either.
    assert texts[:2] == ["A zanzibar note.", "Invoice and report."]
    assert sorted(texts[2:]) == ["Report a.", "Report b.", "Report c."]
    assert list(found.values()) == sorted(found.values(), reverse=True)
    (few,) = await passages_with(passages, [id_], ["invoice", "report", "zanzibar"], 1)
    assert few.text == "A zanzibar note."


async def test_a_word_that_other_collections_use_much_is_found_where_it_is_rare(
    collections: SqlCollections, documents: SqlDocuments, passages: SqlPassages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_passages, "_MAX_RANKED", 3)
    id_ = await store(collections, documents, "one", "Invoice of May.", "Zanzibar.")
    await store(collections, documents, "two", *(f"Invoice {n}." for n in range(9)))
    found = await passages_with(passages, [id_], ["invoice", "zanzibar"], 10)
    assert {passage.text for passage in found} == {"Invoice of May.", "Zanzibar."}


async def test_what_others_store_in_the_minute_after_a_word_was_counted_takes_nobodys_place(
    collections: SqlCollections, documents: SqlDocuments, passages: SqlPassages
) -> None:
    mine = await store(
        collections, documents, "mine", "Somewhere in this rather long text stands Oslo. " + "More. " * 50
    )
    assert len(await passages.by_keywords("acme", [mine], ["oslo"], 10)) == 1
    await store(collections, documents, "theirs", *["Oslo, Oslo."] * 1500)
    assert len(await passages.by_keywords("acme", [mine], ["oslo"], 10)) == 1


async def test_no_search_reads_a_whole_collection(
    database: Database, collections: SqlCollections, documents: SqlDocuments, passages: SqlPassages
) -> None:
    if database.is_postgres:
        pytest.skip("Postgres plans by what it counted, not by a guess")
    id_ = await store(collections, documents, "one", *(f"Whale {n}." for n in range(40)))
    asked: list[str] = []

    def listen(connection: Any, _record: Any) -> None:
        connection.set_trace_callback(asked.append)

    sa.event.listen(sa.Engine, "connect", listen)
    try:
        found = await passages.by_keywords("acme", [id_], ["whale", "fox"], 40)
        await passages.by_ids("acme", [id_], found)
    finally:
        sa.event.remove(sa.Engine, "connect", listen)
    asked = [one for one in asked if one.startswith("SELECT") and ("chunks" in one or "count" in one)]
    assert len(asked) == 3
    with closing(sqlite3.connect(sa.make_url(database.url).database or "")) as connection:
        plans = [str(connection.execute(f"EXPLAIN QUERY PLAN {one}").fetchall()) for one in asked]
    assert not [plan for plan in plans if "ix_chunks_collection_id" in plan or "SCAN chunks" in plan]


async def test_a_database_that_is_locked_is_away_and_a_broken_one_is_not(
    database: Database, passages: SqlPassages, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database.is_postgres:
        pytest.skip("of SQLite's own connections")
    monkeypatch.setattr(reading, "_WAIT_SECONDS", 0.0)
    with closing(sqlite3.connect(sa.make_url(database.url).database or "", isolation_level=None)) as other:
        await database.close()
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("CREATE TABLE taken (id INTEGER)")
        locked = SqlPassages(Database(database.url, schema="errand_rag"))
        with pytest.raises(Unavailable):
            await locked.by_ids("acme", ["one"], ["chk"])
        other.execute("DROP TABLE chunk_words")
    with pytest.raises(sqlite3.OperationalError, match="chunk_words"):
        await passages.by_keywords("acme", ["one"], ["oslo"], 10)
