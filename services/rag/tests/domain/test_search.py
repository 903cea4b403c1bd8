"""Search over vectors in memory and rows in a dictionary."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from errand_common.errors import InvalidArgument, ModelUnavailable, NotFound, PermissionDenied, Unavailable
from errand_common.principal import Principal, acting_as
from errand_rag.domain.filters import Condition, Filter, Operator
from errand_rag.domain.models import Collection, Passage, SearchMode, SearchQuery, SearchResult, VectorEntry
from errand_rag.domain.query_cache import QueryCache
from errand_rag.domain.search import SearchService
from errand_rag.testing.embedder import HashingEmbedder
from errand_rag.testing.reranker import WordReranker
from errand_rag.testing.vectors import InMemoryVectorStore

ADA = Principal("acme", "ada", frozenset(), frozenset({"chat"}))


class Library:
    """Collections and passages of one tenant; keyword search counts shared words."""

    def __init__(self) -> None:
        self.vectors = InMemoryVectorStore()
        self.embedder = HashingEmbedder()
        self.rows: dict[str, Passage] = {}
        self.ids_last_read: tuple[str, ...] = ()
        self.model = self.embedder.model
        self.revision = 0
        self.roles: frozenset[str] = frozenset()
        self.cache = QueryCache(max_entries=3)
        self.reranker = WordReranker()
        self.service = SearchService(
            collections=self,  # type: ignore[arg-type]
            passages=self,
            vectors=self.vectors,
            embedder=self.embedder,
            reranker=self.reranker,
            cache=self.cache,
        )

    async def resolve(self, tenant_id: str, names: Sequence[str]) -> tuple[Collection, ...]:
        if tenant_id != "acme":
            return ()
        for name in names:
            if name not in {"one", "two"}:
                raise NotFound("collection", name)
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        return tuple(
            Collection(n, "acme", n, "", 200, 0, self.model, 1, moment, revision=self.revision, reader_roles=self.roles)
            for n in names or ("one", "two")
        )

    async def by_keywords(
        self,
        tenant_id: str,
        collection_ids: Sequence[str],
        terms: Sequence[str],
        limit: int,
        where: Filter | None = None,
    ) -> Mapping[str, float]:
        scored = [
            (row.chunk_id, float(sum(term in row.text.lower() for term in terms)))
            for row in self.rows.values()
            if row.collection_id in collection_ids
        ]
        return dict(sorted((pair for pair in scored if pair[1]), key=lambda pair: -pair[1])[:limit])

    async def by_ids(
        self, tenant_id: str, collection_ids: Sequence[str], chunk_ids: Iterable[str], where: Filter | None = None
    ) -> Mapping[str, Passage]:
        self.ids_last_read = tuple(chunk_ids)
        return {
            i: self.rows[i]
            for i in self.ids_last_read
            if i in self.rows and self.rows[i].collection_id in collection_ids
        }

    async def documents_matching(
        self, tenant_id: str, collection_ids: Sequence[str], where: Filter, limit: int
    ) -> frozenset[str] | None:
        raise NotImplementedError  # filters are tested on the databases

    async def around(self, tenant_id: str, passages: Sequence[Passage], reach: int) -> Sequence[Passage]:
        raise NotImplementedError  # as above

    async def add(self, id_: str, text: str, *, collection: str = "one", row: bool = True, vector_of: str = "") -> None:
        await self.vectors.upsert(collection, [VectorEntry(id_, "doc", self.embedder.vector(vector_of or text))])
        if row:
            self.revision += 1
            self.rows[id_] = Passage(id_, "doc", collection, "T", "t.txt", None, "", 0, len(text), text)

    async def search(self, text: str, *collections: str, **options: object) -> SearchResult:
        return await self.service.search(SearchQuery(text, collections, **options))  # type: ignore[arg-type]


@pytest.fixture
def library() -> Iterator[Library]:
    with acting_as(ADA):
        yield Library()


def ids(result: SearchResult) -> list[str]:
    return [hit.passage.chunk_id for hit in result.hits]


async def test_a_hit_found_by_words_alone_has_its_similarity(library: Library) -> None:
    await library.add("a", "hotel prices")
    found = await library.search("hotel", "one", mode=SearchMode.KEYWORD)
    assert found.hits[0].similarity == pytest.approx(0.707, abs=0.01)
    assert not found.degraded


async def test_hybrid_puts_what_both_sides_find_before_what_one_finds(library: Library) -> None:
    await library.add("both", "hotel oslo")
    await library.add("meaning", "unrelated words", vector_of="hotel oslo cost")
    await library.add("words", "hotel oslo cost", vector_of="something else entirely")
    await library.add("filler", "other text", vector_of="hotel and more")
    found = await library.search("hotel oslo", "one")
    assert ids(found)[0] == "both"
    assert {"meaning", "words"} < set(ids(found))


async def test_a_common_word_does_not_lift_a_passage_over_one_that_means_the_query(library: Library) -> None:
    await library.add("meaning", "unrelated text", vector_of="hotel oslo winter cost")
    await library.add("word", "the winter garden", vector_of="hotel oslo station")
    assert ids(await library.search("hotel oslo winter cost", "one")) == ["meaning", "word"]


async def test_vectors_whose_rows_are_gone_are_never_hits_and_do_not_crowd_out_others(library: Library) -> None:
    for number in range(200):
        await library.add(f"dead{number:03}", "hotel", row=False)
    await library.add("alive", "hotel somewhere")
    assert ids(await library.search("hotel", "one", mode=SearchMode.VECTOR)) == ["alive"]


@pytest.mark.parametrize("mode", SearchMode)
async def test_the_next_best_takes_the_place_of_one_whose_row_is_gone(library: Library, mode: SearchMode) -> None:
    for number in range(30):
        await library.add(f"p{number:02}", "hotel " + "and more " * number)
    before = ids(await library.search("hotel", "one", mode=mode, top_k=4))
    del library.rows[before[1]]
    library.revision += 1
    after = ids(await library.search("hotel", "one", mode=mode, top_k=4))
    assert after[:3] == [before[0], *before[2:]]
    assert len(after) == 4


async def test_only_rows_of_what_can_be_a_hit_are_read(library: Library) -> None:
    for number in range(40):
        await library.add(f"near{number:02}", "a text", vector_of="hotel oslo " + "more " * number)
        await library.add(f"word{number:02}", "hotel " * (40 - number), vector_of="something else")
    found = await library.search("hotel oslo", "one", top_k=5)
    assert len(found.hits) == 5
    assert len(library.ids_last_read) < 15
    await library.search("hotel oslo", "one", top_k=5, min_similarity=0.1)
    assert len(library.ids_last_read) > 40


async def test_min_similarity_bounds_every_mode(library: Library) -> None:
    await library.add("near", "hotel")
    await library.add("far", "hotel with a long list of other words that tell of other things")
    for mode in SearchMode:
        assert ids(await library.search("hotel", "one", mode=mode, min_similarity=0.8)) == ["near"], mode
        assert len((await library.search("hotel", "one", mode=mode)).hits) == 2, mode


async def test_top_k_bounds_the_answer(library: Library) -> None:
    for number in range(30):
        await library.add(f"c{number}", f"hotel {number}")
    for mode in SearchMode:
        assert len((await library.search("hotel", "one", mode=mode, top_k=7)).hits) == 7


@pytest.mark.parametrize("mode", list(SearchMode))
async def test_without_embeddings_words_still_answer_and_say_so(library: Library, mode: SearchMode) -> None:
    await library.add("a", "hotel oslo")
    library.embedder.fault = Unavailable("inference")
    found = await library.search("hotel", "one", mode=mode, min_similarity=0.5)
    assert (ids(found), found.degraded) == (["a"], True)


@pytest.mark.parametrize("mode", list(SearchMode))
async def test_without_the_vector_store_words_still_answer_and_say_so(library: Library, mode: SearchMode) -> None:
    await library.add("a", "hotel oslo")
    library.vectors.fault = Unavailable("chroma")
    found = await library.search("hotel", "one", mode=mode)
    assert (ids(found), found.degraded) == (["a"], True)


async def test_all_collections_or_only_the_named(library: Library) -> None:
    await library.add("a", "hotel", collection="one")
    await library.add("b", "hotel", collection="two")
    assert set(ids(await library.search("hotel"))) == {"a", "b"}
    assert ids(await library.search("hotel", "two")) == ["b"]
    with pytest.raises(NotFound):
        await library.search("hotel", "three")


async def test_a_collection_that_was_never_embedded_into_answers_nothing(library: Library) -> None:
    library.model = ""
    found = await library.search("hotel", "one")
    assert (found.hits, found.degraded) == ((), False)
    assert library.embedder.calls == 0


async def test_blank_queries_and_callers_without_scope_are_refused(library: Library) -> None:
    with pytest.raises(InvalidArgument):
        await library.search("  \n")
    with acting_as(Principal("acme", "eve")), pytest.raises(PermissionDenied):
        await library.search("hotel")


async def test_a_query_of_signs_alone_is_no_fault(library: Library) -> None:
    await library.add("a", "hotel")
    assert not (await library.search("?!…", "one")).degraded


async def test_an_answer_is_remembered_until_its_collection_changes(library: Library) -> None:
    await library.add("a", "hotel")
    first = await library.search("hotel", "one")
    library.vectors.fault = RuntimeError("asked again")
    assert await library.search("hotel", "one") is first
    library.vectors.fault = None
    await library.add("b", "hotel bar")
    assert set(ids(await library.search("hotel", "one"))) == {"a", "b"}


async def test_an_answer_without_vectors_is_not_remembered(library: Library) -> None:
    await library.add("a", "hotel")
    library.embedder.fault = Unavailable("inference")
    assert (await library.search("hotel", "one")).degraded
    library.embedder.fault = None
    assert not (await library.search("hotel", "one")).degraded


async def test_remembered_answers_are_bounded_and_forgotten_with_their_collection(library: Library) -> None:
    await library.add("a", "hotel")
    for text in ("one", "two", "three", "four"):
        await library.search(text, "one")
    assert len(library.cache) == 3
    library.cache.forget("one")
    assert len(library.cache) == 0


async def test_an_answer_found_before_a_deletion_is_not_remembered_after_it(library: Library) -> None:
    await library.add("a", "hotel")
    read = library.by_ids

    async def deleted_after_reading(*asked: Any) -> Mapping[str, Passage]:
        rows = await read(*asked)
        library.cache.forget("one")
        return rows

    library.by_ids = deleted_after_reading  # type: ignore[method-assign]
    assert ids(await library.search("hotel", "one")) == ["a"]
    assert len(library.cache) == 0


def test_true_and_one_are_different_filters() -> None:
    values: tuple[bool | float, ...] = (True, 1.0)
    queries = [SearchQuery("q", where=Condition("f", Operator.EQUAL, (value,))) for value in values]
    assert QueryCache.key("t", (), queries[0]) != QueryCache.key("t", (), queries[1])


async def test_diversity_puts_something_new_before_the_same_again(library: Library) -> None:
    await library.add("a", "hotel oslo price")
    await library.add("b", "hotel oslo price", vector_of="hotel oslo price list")
    await library.add("c", "hotel breakfast")
    wanted = {"mode": SearchMode.VECTOR, "top_k": 2}
    assert ids(await library.search("hotel oslo price", "one", **wanted)) == ["a", "b"]
    assert ids(await library.search("hotel oslo price", "one", diversity=0.7, **wanted)) == ["a", "c"]


async def test_a_batch_is_embedded_in_one_call_and_answers_in_order(library: Library) -> None:
    await library.add("a", "hotel")
    await library.add("b", "train")
    answers = await library.service.search_batch([SearchQuery("train", top_k=1), SearchQuery("hotel", top_k=1)])
    assert [ids(answer) for answer in answers] == [["b"], ["a"]]
    assert library.embedder.texts[:2] == ["train", "hotel"]


async def test_a_collection_for_other_roles_is_not_there(library: Library) -> None:
    await library.add("a", "hotel")
    library.roles = frozenset({"legal"})
    assert ids(await library.search("hotel")) == []
    with pytest.raises(NotFound):
        await library.search("hotel", "one")
    for role in ("legal", "admin"):
        with acting_as(Principal("acme", "bob", frozenset({role}), frozenset({"chat"}))):
            assert ids(await library.search("hotel", "one")) == ["a"]


async def test_the_cross_encoders_order_replaces_the_former_and_its_scores_are_told(library: Library) -> None:
    await library.add("first", "hotel oslo hotel oslo and a bar")
    await library.add("second", "a bar at the hotel oslo")
    plain = await library.search("hotel oslo", "one")
    assert ids(plain) == ["first", "second"]
    assert [hit.rerank_score for hit in plain.hits] == [None, None]
    assert (plain.reranked, library.reranker.asked) == (False, [])
    read = await library.search("hotel oslo", "one", rerank=True)
    assert [(hit.passage.chunk_id, hit.rerank_score) for hit in read.hits] == [("second", 1.0), ("first", 0.0)]
    assert read.reranked
    assert {hit.passage.chunk_id: hit.score for hit in read.hits} == {h.passage.chunk_id: h.score for h in plain.hits}


async def test_a_passage_below_the_cut_can_come_first_and_reading_is_bounded(library: Library) -> None:
    for number in range(150):
        await library.add(f"c{number:03}", f"hotel oslo {number}")
    await library.add("answer", "of all of these many words only the last two are asked for: hotel oslo")
    found = await library.search("hotel oslo", "one", top_k=20, rerank=True, mode=SearchMode.KEYWORD)
    assert len(found.hits) == 20
    (asked,) = library.reranker.asked
    assert len(asked) == 60
    await library.search("hotel", "one", top_k=50, rerank=True)
    assert len(library.reranker.asked[-1]) <= 100
    few = await library.search("only the last two", "one", top_k=1, rerank=True)
    assert len(few.hits) == 1


async def test_without_the_cross_encoder_the_former_order_is_given_and_not_remembered(library: Library) -> None:
    await library.add("first", "hotel oslo hotel oslo and a bar")
    await library.add("second", "a bar at the hotel oslo")
    library.reranker.fault = Unavailable("inference")
    away = await library.search("hotel oslo", "one", rerank=True)
    assert (ids(away), away.reranked, away.degraded) == (["first", "second"], False, False)
    library.reranker.fault = ModelUnavailable("no cross-encoder is served", model="")
    with pytest.raises(ModelUnavailable):
        await library.search("hotel oslo", "one", rerank=True)
    library.reranker.fault = None
    assert ids(await library.search("hotel oslo", "one", rerank=True)) == ["second", "first"]


async def test_diversity_chooses_by_the_cross_encoders_scores(library: Library) -> None:
    await library.add("same", "hotel oslo hotel oslo")
    await library.add("again", "hotel oslo hotel oslo again")
    await library.add("answer", "breakfast at the hotel oslo")
    found = await library.search("hotel oslo", "one", rerank=True, diversity=0.3, top_k=2)
    assert ids(found) == ["same", "answer"] or ids(found) == ["answer", "same"]
