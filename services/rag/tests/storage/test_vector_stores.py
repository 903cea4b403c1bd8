"""One conformance suite over all vector stores."""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from errand_common.db import Database
from errand_common.errors import Unavailable
from errand_common.testing.keys import free_port
from errand_rag import app
from errand_rag.domain.models import VectorEntry
from errand_rag.domain.ports import VectorStore
from errand_rag.settings import RagSettings
from errand_rag.storage.chroma import ChromaVectorStore
from errand_rag.storage.pgvector import PgVectorStore, install_extension
from errand_rag.testing.chroma import chroma_server
from errand_rag.testing.embedder import HashingEmbedder
from errand_rag.testing.vectors import InMemoryVectorStore

COLLECTION = "col_0123456789"
EMBED = HashingEmbedder(16).vector


@pytest.fixture(scope="module")
def chroma_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chroma_server(free_port(), tmp_path_factory.mktemp("chroma-server")) as url:
        yield url


def on_postgres(url: str) -> PgVectorStore:
    return PgVectorStore(Database(url, schema="errand_rag"))


@pytest.fixture(params=["memory", "chroma", "chroma-server", "pgvector"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[VectorStore]:
    made: InMemoryVectorStore | ChromaVectorStore | PgVectorStore
    if request.param == "memory":
        made = InMemoryVectorStore()
    elif request.param == "pgvector":
        made = on_postgres(request.getfixturevalue("pgvector_url"))
    elif request.param == "chroma":
        made = ChromaVectorStore.embedded(tmp_path / "chroma")
    else:
        made = ChromaVectorStore.server(request.getfixturevalue("chroma_url"))
        for name in (COLLECTION, "col_other"):
            await made.drop(name)
    yield made
    await made.close()


def entry(name: str, text: str, document: str = "doc_1") -> VectorEntry:
    return VectorEntry(chunk_id=name, document_id=document, vector=EMBED(text))


async def test_the_nearest_come_first_with_their_cosine(store: VectorStore) -> None:
    await store.upsert(COLLECTION, [entry("a", "red fox"), entry("b", "red"), entry("c", "blue whale")])
    found = await store.query(COLLECTION, EMBED("red"), 2)
    assert [match.chunk_id for match in found] == ["b", "a"]
    assert found[0].similarity == pytest.approx(1, abs=1e-5)
    assert found[1].similarity == pytest.approx(1 / math.sqrt(2), abs=1e-5)


async def test_nothing_stored_answers_nothing(store: VectorStore) -> None:
    assert await store.query(COLLECTION, EMBED("red"), 5) == []
    assert await store.similarities(COLLECTION, EMBED("red"), ["a"]) == {}
    assert await store.existing(COLLECTION, ["a"]) == set()
    assert await store.count(COLLECTION) == 0
    await store.delete_document(COLLECTION, "doc_1")
    await store.drop(COLLECTION)
    await store.ping()


async def test_more_wanted_than_stored_gives_what_is_there(store: VectorStore) -> None:
    await store.upsert(COLLECTION, [entry("a", "red")])
    assert len(await store.query(COLLECTION, EMBED("red"), 50)) == 1


async def test_similarities_of_named_chunks(store: VectorStore) -> None:
    await store.upsert(COLLECTION, [entry("a", "red fox"), entry("b", "blue")])
    found = await store.similarities(COLLECTION, EMBED("red"), ["a", "gone"])
    assert found == {"a": pytest.approx(1 / math.sqrt(2), abs=1e-5)}


async def test_only_the_named_documents_are_searched(store: VectorStore) -> None:
    await store.upsert(COLLECTION, [entry("a", "red"), entry("b", "red fox", "doc_2"), entry("c", "blue", "doc_3")])
    found = await store.query(COLLECTION, EMBED("red"), 5, documents=frozenset({"doc_2", "doc_3", "gone"}))
    assert [match.chunk_id for match in found] == ["b", "c"]
    assert await store.query(COLLECTION, EMBED("red"), 5, documents=frozenset()) == []


async def test_vectors_come_back_as_they_were_stored(store: VectorStore) -> None:
    await store.upsert(COLLECTION, [entry("a", "red fox")])
    found = await store.fetch(COLLECTION, ["a", "gone"])
    assert list(found) == ["a"]
    assert found["a"] == pytest.approx(EMBED("red fox"), abs=1e-6)
    assert await store.fetch("col_other", ["a"]) == {}


async def test_chunks_are_listed_with_their_documents_and_removed_one_by_one(store: VectorStore) -> None:
    entries = [entry(f"c{n}", f"word{n}", f"doc_{n % 3}") for n in range(1200)]
    await store.upsert(COLLECTION, entries)
    assert await store.chunk_documents(COLLECTION) == {e.chunk_id: e.document_id for e in entries}
    await store.delete_chunks(COLLECTION, ["c0", "c1", "gone"])
    assert await store.count(COLLECTION) == 1198
    assert await store.chunk_documents("col_other") == {}
    await store.delete_chunks("col_other", ["c0"])
    await store.compact()
    assert await store.existing(COLLECTION, ["c1", "c2"]) == {"c2"}


async def test_all_generations_of_an_index_are_listed_and_no_other(store: VectorStore) -> None:
    names = (COLLECTION, f"{COLLECTION}-g1", f"{COLLECTION}-g12", "col_other", f"{COLLECTION}8-g1")
    for name in names:
        await store.upsert(name, [entry("a", "red")])
    assert await store.indexes({COLLECTION}) == frozenset(names[:3])
    for name in names[1:]:
        await store.drop(name)
    assert await store.indexes({COLLECTION}) == {COLLECTION}
    assert await store.indexes({"col_other"}) == frozenset()


async def test_the_same_id_again_replaces(store: VectorStore) -> None:
    await store.upsert(COLLECTION, [entry("a", "red")])
    await store.upsert(COLLECTION, [entry("a", "blue")])
    assert await store.count(COLLECTION) == 1
    assert (await store.query(COLLECTION, EMBED("blue"), 1))[0].similarity == pytest.approx(1, abs=1e-5)


async def test_deleting_a_document_leaves_the_others(store: VectorStore) -> None:
    await store.upsert(COLLECTION, [entry("a", "red"), entry("b", "red fox", "doc_2")])
    await store.delete_document(COLLECTION, "doc_1")
    assert await store.existing(COLLECTION, ["a", "b"]) == {"b"}
    assert [m.chunk_id for m in await store.query(COLLECTION, EMBED("red"), 5)] == ["b"]


async def test_collections_are_apart_and_dropped_whole(store: VectorStore) -> None:
    await store.upsert(COLLECTION, [entry("a", "red")])
    await store.upsert("col_other", [entry("b", "red")])
    await store.drop(COLLECTION)
    assert await store.query(COLLECTION, EMBED("red"), 5) == []
    assert await store.count("col_other") == 1
    await store.upsert(COLLECTION, [entry("c", "red")])
    assert await store.existing(COLLECTION, ["a", "c"]) == {"c"}


async def test_a_vector_of_zeros_has_no_similarity_and_breaks_nothing(store: VectorStore) -> None:
    await store.upsert(COLLECTION, [VectorEntry("zero", "doc_1", (0.0,) * 16), entry("a", "red")])
    similarity = await store.similarities(COLLECTION, EMBED("red"), ["zero", "a"])
    assert similarity["zero"] == 0
    assert "a" in [m.chunk_id for m in await store.query(COLLECTION, EMBED("red"), 5)]


async def test_many_vectors_in_one_call_and_calls_at_once(store: VectorStore) -> None:
    generator = random.Random(7)
    entries = [VectorEntry(f"chk{n}", "doc_1", tuple(generator.gauss(0, 1) for _ in range(16))) for n in range(2500)]
    await store.upsert(COLLECTION, entries)
    answers = await asyncio.gather(*(store.query(COLLECTION, e.vector, 1) for e in entries[:40]))
    assert [answer[0].chunk_id for answer in answers] == [e.chunk_id for e in entries[:40]]


async def test_chroma_keeps_its_vectors_over_a_restart(tmp_path: Path) -> None:
    first = ChromaVectorStore.embedded(tmp_path)
    await first.upsert(COLLECTION, [entry("a", "red")])
    await first.close()
    second = ChromaVectorStore.embedded(tmp_path)
    assert await second.existing(COLLECTION, ["a"]) == {"a"}
    await second.close()


async def test_a_chroma_server_that_is_away_is_unavailable() -> None:
    store = ChromaVectorStore.server(f"http://127.0.0.1:{free_port()}")
    for call in (store.ping(), store.query(COLLECTION, EMBED("red"), 1), store.drop(COLLECTION)):
        with pytest.raises(Unavailable):
            await call
    await store.close()


async def test_the_graph_of_pgvector_gives_all_that_is_wanted(
    administered: Callable[[str], None], pgvector_url: str
) -> None:
    # So few vectors would be read one by one, which is exact anyway.
    for other in ("seqscan", "bitmapscan", "sort"):
        administered(f"ALTER ROLE {{owner}} SET enable_{other} = off")
    store = on_postgres(pgvector_url)
    generator = random.Random(7)
    vectors = [tuple(generator.gauss(0, 1) for _ in range(16)) for _ in range(1200)]
    await store.upsert(COLLECTION, [VectorEntry(f"c{n}", f"doc_{n % 3}", v) for n, v in enumerate(vectors)])
    of_one = await store.query(COLLECTION, vectors[3], 300, documents=frozenset({"doc_0"}))
    assert {int(match.chunk_id[1:]) % 3 for match in of_one} == {0}
    assert (len(of_one), of_one[0].chunk_id) == (300, "c3")
    assert len(await store.query(COLLECTION, vectors[0], 1000)) == 1000
    await store.close()
    database = Database(pgvector_url, schema="errand_rag")
    async with database.transaction() as session:
        scans = sa.text("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = :name")
        assert (await session.execute(scans, {"name": f"hnsw_{COLLECTION}"})).scalar_one() == 2
    await database.close()


async def test_two_first_writers_of_an_index_both_store(pgvector_url: str) -> None:
    stores = [on_postgres(pgvector_url) for _ in range(4)]
    await asyncio.gather(*(s.upsert(COLLECTION, [entry(f"c{n}", "red")]) for n, s in enumerate(stores)))
    assert await stores[0].count(COLLECTION) == 4
    for store in stores:
        await store.close()


async def test_the_extension_may_live_in_a_schema_of_its_own(
    administered: Callable[[str], None], postgres_url: str
) -> None:
    administered("CREATE SCHEMA extensions")
    administered("CREATE EXTENSION vector SCHEMA extensions")
    administered("GRANT USAGE ON SCHEMA extensions TO public")
    install_extension(postgres_url, schema="errand_rag")
    store = on_postgres(postgres_url)
    await store.upsert(COLLECTION, [entry("a", "red")])
    assert (await store.query(COLLECTION, EMBED("red"), 1))[0].chunk_id == "a"
    await store.close()


async def test_migrating_installs_the_extension_or_tells_the_cure(
    settings: RagSettings, administered: Callable[[str], None], postgres_url: str
) -> None:
    chosen = RagSettings(**{**settings.model_dump(), "database_url": postgres_url, "vector_store": "pgvector"})
    with pytest.raises(RuntimeError, match="CREATE EXTENSION vector"):
        app.migrate(chosen)
    administered("ALTER ROLE {owner} SUPERUSER")
    app.migrate(chosen)
    store = app.open_vector_store(chosen)
    await store.upsert(COLLECTION, [entry("a", "red")])
    assert await store.count(COLLECTION) == 1
    await store.close()


async def test_a_postgres_that_is_away_is_unavailable() -> None:
    store = on_postgres(f"postgresql+asyncpg://nobody@127.0.0.1:{free_port()}/none")
    for call in (store.ping(), store.query(COLLECTION, EMBED("red"), 1), store.drop(COLLECTION)):
        with pytest.raises(Unavailable):
            await call
    await store.close()


def test_pgvector_without_postgres_is_refused(settings: RagSettings) -> None:
    with pytest.raises(ValueError, match="ERRAND_RAG_DATABASE_URL"):
        RagSettings(**{**settings.model_dump(), "vector_store": "pgvector"})
