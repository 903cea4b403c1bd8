"""Filters on both databases: types, missing fields, and, or, not."""

from dataclasses import replace

import pytest
from errand_common.errors import InvalidArgument
from errand_rag.domain.filters import AllOf, AnyOf, Condition, Filter, MetadataValue, NoneOf, Operator
from errand_rag.domain.models import Quota
from errand_rag.storage.collections import SqlCollections
from errand_rag.storage.documents import SqlDocuments
from errand_rag.storage.passages import SqlPassages
from errand_rag.testing.records import ingested, make_collection, passages_with, upload_of

BOOKS: dict[str, dict[str, MetadataValue]] = {
    "a": {"year": 2020.0, "lang": "en", "draft": False, "price": 9.5},
    "b": {"year": 2023.0, "lang": "de", "draft": True},
    "c": {"year": 2025.0, "lang": "en", "draft": False, "o_o": "it's"},
    "d": {"year": "2025", "lang": "Überall"},
    "e": {},
}
EQ, NE, LT, LE, GT, GE, IN, EX = Operator


def cond(field: str, operator: Operator, *values: MetadataValue) -> Condition:
    return Condition(field, operator, values)


@pytest.fixture
async def shelf(collections: SqlCollections, documents: SqlDocuments) -> str:
    collection = await make_collection(collections, "shelf")
    for name, metadata in BOOKS.items():
        upload = replace(upload_of(collection, f"{name}.txt", name), metadata=metadata)
        document, _ = await documents.add("acme", upload, principal_id="u", quota=Quota(9, 0))
        await documents.complete("acme", ingested(document.id, f"whale {name}"), principal_id="u")
    return collection.id


CASES: list[tuple[Filter, str]] = [
    (cond("lang", EQ, "en"), "ac"),
    (cond("lang", NE, "en"), "bde"),
    (cond("year", GT, 2020.0), "bc"),
    (cond("year", GE, 2020.0), "abc"),
    (cond("year", LT, 2025.0), "ab"),
    (cond("year", LE, 2025.0), "abc"),
    (cond("year", EQ, "2025"), "d"),
    (cond("year", IN, 2020.0, 2025.0), "ac"),
    (cond("price", GT, 9.0), "a"),
    (cond("draft", EQ, True), "b"),
    (cond("draft", EQ, 1.0), ""),
    (cond("o_o", EQ, "it's"), "c"),
    (cond("price", EX), "a"),
    (cond("lang", GT, "en"), "d"),
    (cond("filename", IN, "a.txt", "e.txt"), "ae"),
    (cond("size_bytes", LE, 0.0), ""),
    (cond("created_at", GT, "2020-01-01"), "abcde"),
    (cond("created_at", LT, "2020-01-01T00:00:00+02:00"), ""),
    (cond("document_id", EX), "abcde"),
    (cond("lang", EQ, "en\x00"), "ac"),
    (AllOf((cond("lang", EQ, "en"), cond("year", GT, 2021.0))), "c"),
    (AnyOf((cond("lang", EQ, "de"), cond("price", EX))), "ab"),
    (NoneOf((cond("lang", EQ, "de"), cond("draft", EQ, False))), "de"),
    (AllOf((NoneOf((cond("draft", EX),)), AnyOf((cond("lang", EX), cond("year", EX))))), "d"),
]


async def test_each_filter_holds_for_its_documents_on_every_way(shelf: str, passages: SqlPassages) -> None:
    everything = list(await passages.by_keywords("acme", [shelf], ["whale"], 10))
    assert len(everything) == len(BOOKS)
    for where, wanted in CASES:
        by_words = await passages_with(passages, [shelf], ["whale"], 10, where)
        assert "".join(sorted(p.filename[0] for p in by_words)) == wanted, where
        by_ids = await passages.by_ids("acme", [shelf], everything, where)
        assert "".join(sorted(p.filename[0] for p in by_ids.values())) == wanted, where
        named = await passages.documents_matching("acme", [shelf], where, 10)
        assert named is not None
        assert len(named) == len(wanted), where


async def test_more_documents_than_wanted_are_not_named(shelf: str, passages: SqlPassages) -> None:
    assert await passages.documents_matching("acme", [shelf], cond("document_id", EX), 4) is None
    assert await passages.documents_matching("other", [shelf], cond("document_id", EX), 4) == frozenset()


async def test_a_date_that_is_none_is_refused(shelf: str, passages: SqlPassages) -> None:
    with pytest.raises(InvalidArgument, match="ISO 8601"):
        await passages.by_ids("acme", [shelf], ["x"], cond("created_at", GT, "yesterday"))


async def test_chunks_around_a_passage(
    collections: SqlCollections, documents: SqlDocuments, passages: SqlPassages
) -> None:
    collection = await make_collection(collections, "long")
    document, _ = await documents.add("acme", upload_of(collection, "l", "l"), principal_id="u", quota=Quota(9, 0))
    await documents.complete("acme", ingested(document.id, *(f"word{n}" for n in range(6))), principal_id="u")
    (hit,) = await passages_with(passages, [collection.id], ["word2"], 1)
    around = await passages.around("acme", [hit], 1)
    assert sorted(p.text for p in around) == ["word1", "word2", "word3"]
    assert not await passages.around("other", [hit], 1)
