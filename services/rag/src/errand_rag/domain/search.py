"""Finds passages by meaning, by words, or by both."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from errand_common.errors import (
    DeadlineExceeded,
    ErrandError,
    InvalidArgument,
    ModelUnavailable,
    Overloaded,
    RateLimited,
    Unavailable,
)

from errand_rag.domain.access import may_search
from errand_rag.domain.fusion import fuse
from errand_rag.domain.keywords import query_terms
from errand_rag.domain.models import (
    Collection,
    Passage,
    SearchHit,
    SearchMode,
    SearchQuery,
    SearchResult,
    Vector,
)
from errand_rag.domain.ports import Collections, Embedder, Passages, VectorStore

# Each side gives more than is asked for: fusion needs the places below the cut.
_CANDIDATES_PER_HIT = 4
_MIN_CANDIDATES = 40
_MAX_ROUNDS = 3
# The vector side's faults that words can stand in for.
_AWAY = (Unavailable, Overloaded, RateLimited, DeadlineExceeded, ModelUnavailable)


@dataclass(slots=True)
class _VectorSide:
    """The query's vector for each collection that has vectors, and what they found."""

    vectors: dict[str, Vector] = field(default_factory=dict)
    similarity: dict[str, float] = field(default_factory=dict)
    passages: dict[str, Passage] = field(default_factory=dict)
    away: bool = False

    @property
    def ranking(self) -> list[str]:
        found = self.passages
        return sorted(found, key=lambda chunk_id: (-self.similarity[chunk_id], chunk_id))


class SearchService:
    """Searches the calling principal's tenant, and nothing else."""

    def __init__(
        self,
        *,
        collections: Collections,
        passages: Passages,
        vectors: VectorStore,
        embedder: Embedder,
    ) -> None:
        self._collections = collections
        self._passages = passages
        self._vectors = vectors
        self._embedder = embedder

    async def search(self, query: SearchQuery) -> SearchResult:
        """Hits, best first. Raises NotFound for an unknown collection, PermissionDenied."""
        tenant_id = may_search().tenant_id
        if not query.text.strip():
            raise InvalidArgument("query is blank; say what to look for", field="query", rule="string.min_len")
        collections = await self._collections.resolve(tenant_id, query.collections)
        if not collections:
            return SearchResult(hits=(), degraded=False)
        limit = max(query.top_k * _CANDIDATES_PER_HIT, _MIN_CANDIDATES)
        side, words = await asyncio.gather(
            self._by_vector(tenant_id, collections, query, limit),
            self._by_words(tenant_id, collections, query, limit),
        )
        if query.mode is SearchMode.VECTOR and side.away:
            words = await self._keyword_hits(tenant_id, collections, query.text, limit)
        await self._fill_similarities(side, words)
        return SearchResult(hits=_rank(query, side, words), degraded=side.away)

    async def _by_words(
        self, tenant_id: str, collections: Sequence[Collection], query: SearchQuery, limit: int
    ) -> list[tuple[Passage, float]]:
        if query.mode is SearchMode.VECTOR:
            return []
        return await self._keyword_hits(tenant_id, collections, query.text, limit)

    async def _keyword_hits(
        self, tenant_id: str, collections: Sequence[Collection], text: str, limit: int
    ) -> list[tuple[Passage, float]]:
        terms = query_terms(text)
        if not terms:
            return []
        ids = [collection.id for collection in collections]
        return await self._passages.by_keywords(tenant_id, ids, terms, limit)

    async def _by_vector(
        self, tenant_id: str, collections: Sequence[Collection], query: SearchQuery, limit: int
    ) -> _VectorSide:
        side = _VectorSide()
        try:
            side.vectors = await self._embed(query.text, collections)
            if query.mode is not SearchMode.KEYWORD:
                await self._nearest(tenant_id, side, limit)
        except _AWAY:
            return _VectorSide(away=True)
        return side

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

    async def _nearest(self, tenant_id: str, side: _VectorSide, limit: int) -> None:
        """Fills the side; asks again, wider, while vectors whose rows are gone crowd it.

        Rows and vectors change apart: a document replaced between the two reads is found by the
        second round, so that a searcher never sees neither version.
        """
        wanted = limit
        for _ in range(_MAX_ROUNDS):
            side.similarity = await self._query_all(side.vectors, limit)
            side.passages = dict(await self._passages.by_ids(tenant_id, list(side.vectors), side.similarity))
            dead = len(side.similarity) - len(side.passages)
            if dead == 0 or len(side.passages) >= wanted:
                return
            limit *= 4

    async def _query_all(self, vectors: Mapping[str, Vector], limit: int) -> dict[str, float]:
        answers = await asyncio.gather(*(self._vectors.query(id_, vector, limit) for id_, vector in vectors.items()))
        matches = sorted(
            (match for answer in answers for match in answer),
            key=lambda match: (-match.similarity, match.chunk_id),
        )
        return {match.chunk_id: match.similarity for match in matches[:limit]}

    async def _fill_similarities(self, side: _VectorSide, words: Sequence[tuple[Passage, float]]) -> None:
        """Passages found by words alone get their similarity from the stored vectors."""
        missing: dict[str, list[str]] = {}
        for passage, _ in words:
            if passage.chunk_id not in side.similarity and passage.collection_id in side.vectors:
                missing.setdefault(passage.collection_id, []).append(passage.chunk_id)
        try:
            for collection_id, ids in missing.items():
                vector = side.vectors[collection_id]
                found = await self._vectors.similarities(collection_id, vector, ids)
                side.similarity.update(found)
        except ErrandError as error:
            if not isinstance(error, _AWAY):
                raise
            side.away = True


def _rank(query: SearchQuery, side: _VectorSide, words: Sequence[tuple[Passage, float]]) -> tuple[SearchHit, ...]:
    passages = {**side.passages, **{passage.chunk_id: passage for passage, _ in words}}
    scores = _scores(query.mode, side, words)
    hits = (
        SearchHit(passage=passages[id_], score=score, similarity=side.similarity.get(id_, 0.0))
        for id_, score in scores.items()
    )
    # A bound that cannot be checked is not applied: `degraded` tells the caller.
    bounded = query.min_similarity != 0.0 and not side.away
    kept = (hit for hit in hits if not bounded or hit.similarity >= query.min_similarity)
    return tuple(kept)[: query.top_k]


def _scores(mode: SearchMode, side: _VectorSide, words: Sequence[tuple[Passage, float]]) -> dict[str, float]:
    if mode is SearchMode.VECTOR and not side.away:
        return {id_: side.similarity[id_] for id_ in side.ranking}
    if mode is SearchMode.HYBRID:
        return fuse(side.ranking, [passage.chunk_id for passage, _ in words])
    return {passage.chunk_id: score for passage, score in words}
