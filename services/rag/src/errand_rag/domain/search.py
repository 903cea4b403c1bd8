"""Finds passages by meaning, by words, or by both."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import islice

from errand_common.errors import (
    DeadlineExceeded,
    InvalidArgument,
    ModelUnavailable,
    NotFound,
    Overloaded,
    RateLimited,
    Unavailable,
)
from errand_common.principal import Principal

from errand_rag.domain.access import may_search, readable
from errand_rag.domain.diversity import diversify
from errand_rag.domain.filters import check_filter
from errand_rag.domain.fusion import contenders, fuse
from errand_rag.domain.keywords import coverage, query_terms
from errand_rag.domain.models import (
    Collection,
    Passage,
    SearchHit,
    SearchMode,
    SearchQuery,
    SearchResult,
    Vector,
)
from errand_rag.domain.neighbours import with_neighbours
from errand_rag.domain.ports import Collections, Embedder, Passages, Reranker, VectorStore
from errand_rag.domain.query_cache import QueryCache

# Each side gives more than is asked for: fusion needs the places below the cut.
_CANDIDATES_PER_HIT = 4
_MIN_CANDIDATES = 40
_MAX_ROUNDS = 3
# A filter that leaves fewer documents is given to the vector store; past it most vectors near the
# query match, and asking for more of them is cheaper than naming them.
_MAX_NAMED_DOCUMENTS = 2000
_BATCH_AT_ONCE = 8
# A cross-encoder reads the query anew with each passage: some milliseconds a passage.
_READ_PER_HIT, _MIN_READ, _MAX_READ = 3, 20, 100
# The vector side's faults that words can stand in for.
_AWAY = (Unavailable, Overloaded, RateLimited, DeadlineExceeded, ModelUnavailable)
# Those that the former order can stand in for; that no cross-encoder is served is the caller's to know.
_RERANKER_AWAY = (Unavailable, Overloaded, RateLimited, DeadlineExceeded)


@dataclass(slots=True)
class _VectorSide:
    """The query's vector and the index of each collection that has vectors, and what is near."""

    vectors: dict[str, Vector] = field(default_factory=dict)
    indexes: dict[str, str] = field(default_factory=dict)
    similarity: dict[str, float] = field(default_factory=dict)
    away: bool = False


@dataclass(frozen=True, slots=True)
class _Found:
    """What both sides found, and of what can be a hit the passages, all of one moment."""

    passages: Mapping[str, Passage]
    by_vector: list[str]
    by_words: dict[str, float]
    side: _VectorSide


class SearchService:
    """Searches the calling principal's tenant, and nothing else."""

    def __init__(
        self,
        *,
        collections: Collections,
        passages: Passages,
        vectors: VectorStore,
        embedder: Embedder,
        reranker: Reranker,
        cache: QueryCache,
    ) -> None:
        self._collections = collections
        self._passages = passages
        self._vectors = vectors
        self._embedder = embedder
        self._reranker = reranker
        self._cache = cache

    async def search(self, query: SearchQuery) -> SearchResult:
        """Hits, best first. Raises InvalidArgument, NotFound for an unknown collection, PermissionDenied."""
        principal = may_search()
        collections = await self._searched(principal, query)
        if not collections:
            return SearchResult(hits=(), degraded=False)
        key = self._cache.key(principal.tenant_id, collections, query)
        known = self._cache.get(key)
        if known is None:
            epoch = self._cache.epoch
            known = await self._answer(principal.tenant_id, collections, query)
            self._cache.put(key, query, known, epoch=epoch)
        return known

    async def search_batch(self, queries: Sequence[SearchQuery]) -> tuple[SearchResult, ...]:
        """The answers in the order of the queries, whose texts are embedded together. Raises as `search`."""
        principal = may_search()
        searched = [await self._searched(principal, query) for query in queries]
        texts: dict[str, dict[str, None]] = {}
        for query, collections in zip(queries, searched, strict=True):
            for model in {c.embedding_model for c in collections if c.embedding_model}:
                texts.setdefault(model, {})[query.text] = None
        with contextlib.suppress(*_AWAY):  # each search says for itself that it is degraded
            for model, wanted in texts.items():
                await self._embedder.embed(list(wanted), model=model)
        slots = asyncio.Semaphore(_BATCH_AT_ONCE)

        async def one(query: SearchQuery) -> SearchResult:
            async with slots:
                return await self.search(query)

        return tuple(await asyncio.gather(*map(one, queries)))

    async def _searched(self, principal: Principal, query: SearchQuery) -> tuple[Collection, ...]:
        """What a query looks into. Raises InvalidArgument for a query that makes no sense."""
        if not query.text.strip():
            raise InvalidArgument("query is blank; say what to look for", field="query", rule="string.min_len")
        if query.where is not None:
            check_filter(query.where)
        collections = await self._collections.resolve(principal.tenant_id, query.collections)
        open_to = readable(principal, collections)
        if query.collections and len(open_to) < len(collections):
            raise NotFound("collection", next(c.name for c in collections if c not in open_to))
        return open_to

    async def _answer(self, tenant_id: str, collections: Sequence[Collection], query: SearchQuery) -> SearchResult:
        found = await self._find(tenant_id, collections, query)
        if query.min_similarity:
            await self._fill_similarities(found, found.passages)
        scores = {id_: score for id_, score in _scores(query, found).items() if _near_enough(query, found, id_)}
        reranked = await self._reranked(query, found, scores) if query.rerank else None
        chosen = await self._chosen(query, found, scores if reranked is None else reranked)
        await self._fill_similarities(found, chosen)
        hits = _hits(found, {id_: scores[id_] for id_ in chosen}, reranked or {})
        if query.neighbours:
            around = await self._passages.around(tenant_id, [hit.passage for hit in hits], query.neighbours)
            hits = tuple(with_neighbours(hit, around) for hit in hits)
        return SearchResult(hits=hits, degraded=found.side.away, reranked=reranked is not None)

    async def _reranked(
        self, query: SearchQuery, found: _Found, scores: Mapping[str, float]
    ) -> dict[str, float] | None:
        """The cross-encoder's scores of the best, best first; None while it is away. Raises ModelUnavailable."""
        limit = min(max(query.top_k * _READ_PER_HIT, _MIN_READ), _MAX_READ)
        ids = list(islice(scores, limit))
        if not ids:
            return {}
        texts = [_whole(found.passages[id_]) for id_ in ids]
        try:
            read = dict(zip(ids, await self._reranker.rerank(query.text, texts), strict=True))
        except _RERANKER_AWAY:
            return None
        # Of equal ones the order that they had stays.
        return dict(sorted(read.items(), key=lambda pair: -pair[1]))

    async def _chosen(self, query: SearchQuery, found: _Found, scores: Mapping[str, float]) -> list[str]:
        """Ids of the hits; with diversity asked for, in the order that it gives."""
        if not query.diversity or found.side.away:
            return list(islice(scores, query.top_k))
        candidates = dict(islice(scores.items(), query.top_k * _CANDIDATES_PER_HIT))
        vectors: dict[str, Vector] = {}
        for collection_id in found.side.vectors:
            ids = [id_ for id_ in candidates if found.passages[id_].collection_id == collection_id]
            if ids:
                with contextlib.suppress(*_AWAY):
                    vectors |= await self._vectors.fetch(found.side.indexes[collection_id], ids)
        return list(diversify(candidates, vectors, diversity=query.diversity, limit=query.top_k))

    async def _find(self, tenant_id: str, collections: Sequence[Collection], query: SearchQuery) -> _Found:
        """Asks both sides, then reads the rows at once of all that can be a hit.

        Rows and vectors change apart, and the sides are asked at different moments: only that last
        read decides what is there, so that no searcher sees two versions of a document. When rows
        are gone both are asked again, wider: the new version is found then, and vectors that wait
        for their removal crowd out nothing.
        """
        wanted = limit = max(query.top_k * _CANDIDATES_PER_HIT, _MIN_CANDIDATES)
        ids = [collection.id for collection in collections]
        named: frozenset[str] | None = None
        if query.where is not None:
            named = await self._passages.documents_matching(tenant_id, ids, query.where, _MAX_NAMED_DOCUMENTS)
        for _ in range(_MAX_ROUNDS):
            side, words = await asyncio.gather(
                self._by_vector(collections, query, limit, named),
                self._by_words(tenant_id, collections, query, limit),
            )
            if query.mode is SearchMode.VECTOR and side.away:
                words = await self._keyword_hits(tenant_id, collections, query, limit)
            passages, gone = await self._rows(tenant_id, ids, query, side, words)
            if not gone or len(passages) >= wanted:
                break
            limit *= 4
        return _Found(
            passages=passages,
            by_vector=[id_ for id_ in side.similarity if id_ not in gone],
            by_words={id_: score for id_, score in words.items() if id_ not in gone},
            side=side,
        )

    async def _rows(
        self,
        tenant_id: str,
        collection_ids: Sequence[str],
        query: SearchQuery,
        side: _VectorSide,
        words: Mapping[str, float],
    ) -> tuple[Mapping[str, Passage], Set[str]]:
        """The passages of what can be a hit, or of all that was found when rows are gone; and whose are."""
        everything = {*side.similarity, *words}
        asked = everything if _is_narrowed(query) else _contenders(query, side, words)
        passages = await self._passages.by_ids(tenant_id, collection_ids, asked, query.where)
        if len(passages) < len(asked) < len(everything):
            asked = everything
            passages = await self._passages.by_ids(tenant_id, collection_ids, asked, query.where)
        return passages, asked - passages.keys()

    async def _by_words(
        self, tenant_id: str, collections: Sequence[Collection], query: SearchQuery, limit: int
    ) -> Mapping[str, float]:
        if query.mode is SearchMode.VECTOR:
            return {}
        return await self._keyword_hits(tenant_id, collections, query, limit)

    async def _keyword_hits(
        self, tenant_id: str, collections: Sequence[Collection], query: SearchQuery, limit: int
    ) -> Mapping[str, float]:
        terms = query_terms(query.text)
        if not terms:
            return {}
        ids = [collection.id for collection in collections]
        return await self._passages.by_keywords(tenant_id, ids, terms, limit, query.where)

    async def _by_vector(
        self, collections: Sequence[Collection], query: SearchQuery, limit: int, named: frozenset[str] | None
    ) -> _VectorSide:
        try:
            vectors = await self._embed(query.text, collections)
            indexes = {collection.id: collection.index for collection in collections}
            by_index = {indexes[id_]: vector for id_, vector in vectors.items()}
            near = {} if query.mode is SearchMode.KEYWORD else await self._query_all(by_index, limit, named)
        except _AWAY:
            return _VectorSide(away=True)
        return _VectorSide(vectors=vectors, indexes=indexes, similarity=near)

    async def _embed(self, text: str, collections: Iterable[Collection]) -> dict[str, Vector]:
        """The query's vector by collection; one that was never embedded into has none."""
        by_model: dict[str, list[str]] = {}
        for collection in collections:
            if collection.embedding_model:
                by_model.setdefault(collection.embedding_model, []).append(collection.id)
        vectors: dict[str, Vector] = {}
        for model, ids in by_model.items():
            made = await self._embedder.embed([text], model=model)
            vectors.update(dict.fromkeys(ids, made.vectors[0]))
        return vectors

    async def _query_all(
        self, vectors: Mapping[str, Vector], limit: int, named: frozenset[str] | None
    ) -> dict[str, float]:
        """The nearest of all collections, best first."""
        answers = await asyncio.gather(
            *(self._vectors.query(id_, vector, limit, documents=named) for id_, vector in vectors.items())
        )
        matches = sorted(
            (match for answer in answers for match in answer),
            key=lambda match: (-match.similarity, match.chunk_id),
        )
        return {match.chunk_id: match.similarity for match in matches[:limit]}

    async def _fill_similarities(self, found: _Found, chunk_ids: Iterable[str]) -> None:
        """Those of the passages found by words alone get their similarity from the stored vectors."""
        side = found.side
        missing: dict[str, list[str]] = {}
        for id_ in chunk_ids:
            collection_id = found.passages[id_].collection_id
            if id_ not in side.similarity and collection_id in side.vectors:
                missing.setdefault(collection_id, []).append(id_)
        try:
            for collection_id, ids in missing.items():
                vector = side.vectors[collection_id]
                side.similarity.update(await self._vectors.similarities(side.indexes[collection_id], vector, ids))
        except _AWAY:
            side.away = True


def _hits(found: _Found, scores: Mapping[str, float], reranked: Mapping[str, float]) -> tuple[SearchHit, ...]:
    similarity = found.side.similarity
    return tuple(
        SearchHit(found.passages[id_], score, similarity.get(id_, 0.0), rerank_score=reranked.get(id_))
        for id_, score in scores.items()
    )


def _whole(passage: Passage) -> str:
    return f"{passage.title} {passage.heading} {passage.text}"


def _near_enough(query: SearchQuery, found: _Found, chunk_id: str) -> bool:
    # A bound that cannot be checked is not applied: `degraded` tells the caller.
    if query.min_similarity == 0.0 or found.side.away:
        return True
    return found.side.similarity.get(chunk_id, 0.0) >= query.min_similarity


def _is_narrowed(query: SearchQuery) -> bool:
    """Whether more than the order of both sides decides what is a hit."""
    return query.where is not None or bool(query.min_similarity or query.diversity or query.rerank)


def _contenders(query: SearchQuery, side: _VectorSide, words: Mapping[str, float]) -> set[str]:
    """What can be a hit: by its places on both sides, or as one of the first on the one that decides."""
    near, worded = list(side.similarity), list(words)
    if query.mode is SearchMode.HYBRID:
        return contenders(near, worded, query.top_k)
    return set((near or worded)[: query.top_k])


def _scores(query: SearchQuery, found: _Found) -> dict[str, float]:
    """Of each passage, best first."""
    if query.mode is SearchMode.HYBRID:
        scores = fuse(found.by_vector, list(found.by_words), weights=({}, _word_weights(query, found)))
    elif query.mode is SearchMode.VECTOR and not found.side.away:
        scores = {id_: found.side.similarity[id_] for id_ in found.by_vector}
    else:
        scores = found.by_words
    return {id_: score for id_, score in scores.items() if id_ in found.passages}


def _word_weights(query: SearchQuery, found: _Found) -> dict[str, float]:
    """How much a place among the words' hits counts: squared, so that one common word counts little."""
    terms = query_terms(query.text)
    read = found.by_words.keys() & found.passages.keys()
    return {id_: coverage(terms, _whole(found.passages[id_])) ** 2 for id_ in read}
