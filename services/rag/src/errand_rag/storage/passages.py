"""Queries of chunks: by words and by id."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

import sqlalchemy as sa
from errand_common.db import Database
from errand_common.statements import Statement

from errand_rag.domain.filters import Filter
from errand_rag.domain.models import Passage
from errand_rag.storage.filtering import where as matching
from errand_rag.storage.models import ChunkRow, DocumentRow
from errand_rag.storage.reading import Queries, Rows, Work, among, from_json, listed

# Bound variables of one statement, below SQLite's and asyncpg's limits.
_MAX_IDS = 5000
# Ranking costs 4 us a passage on SQLite.
_MAX_RANKED = 1000
_MAX_COUNTS, _COUNT_SECONDS = 20_000, 60.0
_WORDS = sa.table("chunk_words", sa.column("rowid", sa.Integer))
# Title and heading tell more of a passage than a word of its text. bm25 is better when smaller.
_BM25: sa.ColumnElement[float] = sa.literal_column("-bm25(chunk_words, 2.0, 2.0, 1.0)", sa.Float)
# SQLite's limit that is none.
_ALL: sa.ColumnElement[int] = sa.literal_column("-1", sa.Integer)
_VECTOR: sa.ColumnElement[Any] = sa.literal_column("chunks.words")
_COLUMNS = (
    ChunkRow.id,
    ChunkRow.document_id,
    ChunkRow.collection_id,
    ChunkRow.title,
    DocumentRow.filename,
    ChunkRow.page,
    ChunkRow.heading,
    ChunkRow.start_offset,
    ChunkRow.end_offset,
    ChunkRow.text,
    ChunkRow.position,
    DocumentRow.details,
)


class SqlPassages:
    """Chunks on SQLite (FTS5) or Postgres (full text)."""

    def __init__(self, database: Database) -> None:
        self._queries = Queries(database)
        self._is_postgres = database.is_postgres
        self._counted: dict[tuple[str, str], int] = {}
        self._counted_since = time.monotonic()

    async def by_keywords(
        self,
        tenant_id: str,
        collection_ids: Sequence[str],
        terms: Sequence[str],
        limit: int,
        where: Filter | None = None,
    ) -> dict[str, float]:
        """Chunks that hold any of the terms with their rank score, best first.

        Ranking costs by the passage, and a common word is in very many: those with the rarer words
        are ranked all. Only while they are too few do the common words count, together, then each
        alone, and of the passages that hold them only the newest are ranked.
        """
        values = {
            "tenant": tenant_id,
            "collections": self._listed(collection_ids),
            "limit": limit,
            "ranked": _MAX_RANKED,
        }
        return await self._queries.follow(tenant_id, self._best(tenant_id, terms, where, values))

    def _best(
        self, tenant_id: str, terms: Sequence[str], where: Filter | None, values: Mapping[str, Any]
    ) -> Work[dict[str, float]]:
        limit: int = values["limit"]
        rare, common = yield from self._by_frequency(tenant_id, terms)
        found: dict[str, float] = {}
        for words, every, newest in ((rare, False, False), (common, True, True), (common, False, True)):
            if words and len(found) < limit:
                worst = min(found.values(), default=math.inf)
                match = {"match": self._match(words, every=every)}
                for chunk_id, score in (yield self._ranking(where, newest_first=newest), {**values, **match}):
                    found.setdefault(chunk_id, min(score, worst))
        return dict(islice(found.items(), limit))

    def _ranking(self, where: Filter | None, *, newest_first: bool) -> Statement | sa.Select[Any]:
        if where is None:
            return _ranked_statement(postgres=self._is_postgres, newest_first=newest_first)
        return _ranked(self._matching(where), postgres=self._is_postgres, newest_first=newest_first)

    def _by_frequency(self, tenant_id: str, terms: Sequence[str]) -> Work[tuple[list[str], list[str]]]:
        """The rarest terms that are in few enough passages together, and the others."""
        counts = yield from self._counts(tenant_id, terms)
        rare: list[str] = []
        ranked = 0
        for term in sorted(terms, key=counts.__getitem__):
            ranked += counts[term]
            if ranked <= _MAX_RANKED:
                rare.append(term)
        return rare, [term for term in terms if term not in rare]

    def _counts(self, tenant_id: str, terms: Sequence[str]) -> Work[dict[str, int]]:
        """Passages with each term, counted up to the most that are ranked; at most a minute old."""
        if time.monotonic() - self._counted_since > _COUNT_SECONDS or len(self._counted) > _MAX_COUNTS:
            self._counted, self._counted_since = {}, time.monotonic()
        counted = self._counted
        missing = [term for term in terms if (tenant_id, term) not in counted]
        if missing:
            wanted = {f"term{number}": self._match([term], every=False) for number, term in enumerate(missing)}
            statement = _counting(len(missing), _MAX_RANKED + 1, postgres=self._is_postgres)
            (row,) = yield statement, {**wanted, **self._owned(tenant_id)}
            counted.update({(tenant_id, term): count for term, count in zip(missing, row, strict=True)})
        return {term: counted[tenant_id, term] for term in terms}

    def _owned(self, tenant_id: str) -> dict[str, str]:
        """The tenant, for those statements that count its own alone."""
        return {"tenant": tenant_id} if self._is_postgres else {}

    async def by_ids(
        self, tenant_id: str, collection_ids: Sequence[str], chunk_ids: Iterable[str], where: Filter | None = None
    ) -> Mapping[str, Passage]:
        """Those of the chunks whose rows exist and whose documents match."""
        ids = list(chunk_ids)[:_MAX_IDS]
        if not ids:
            return {}
        values = {"tenant": tenant_id, "collections": self._listed(collection_ids), "ids": self._listed(ids)}
        query: Statement | sa.Select[Any] = _named_statement(postgres=self._is_postgres)
        if where is not None:
            query = _named(postgres=self._is_postgres).where(*self._matching(where))
        return {found.chunk_id: found for found in _passages(await self._queries.rows(tenant_id, query, values))}

    async def documents_matching(
        self, tenant_id: str, collection_ids: Sequence[str], where: Filter, limit: int
    ) -> frozenset[str] | None:
        """Ids of the documents that match; None when they are more than `limit`."""
        query = (
            sa.select(DocumentRow.id)
            .where(DocumentRow.tenant_id == tenant_id, DocumentRow.collection_id.in_(collection_ids))
            .where(*self._matching(where))
            .limit(limit + 1)
        )
        ids = [id_ for (id_,) in await self._queries.rows(tenant_id, query)]
        return frozenset(ids) if len(ids) <= limit else None

    async def chunk_ids(self, tenant_id: str, collection_id: str) -> frozenset[str]:
        """All chunks of a collection."""
        query = sa.select(ChunkRow.id).where(*_in(tenant_id, [collection_id]))
        return frozenset(id_ for (id_,) in await self._queries.rows(tenant_id, query))

    async def around(self, tenant_id: str, passages: Sequence[Passage], reach: int) -> Sequence[Passage]:
        """The chunks at most `reach` places before and after each passage in its document."""
        if not passages:
            return ()
        near = sa.or_(
            *(
                sa.and_(
                    ChunkRow.document_id == passage.document_id,
                    ChunkRow.position.between(passage.position - reach, passage.position + reach),
                )
                for passage in passages
            )
        )
        rows = await self._queries.rows(tenant_id, _select().where(ChunkRow.tenant_id == tenant_id, near))
        return _passages(rows)

    def _match(self, terms: Sequence[str], *, every: bool) -> str:
        """What asks the keyword index for any or every one of the terms."""
        if self._is_postgres:
            # Postgres reads backslashes inside quotes too.
            return (" & " if every else " | ").join(_quoted(term.replace("\\", " "), "'") for term in terms)
        return (" AND " if every else " OR ").join(_quoted(term, '"') for term in terms)

    def _listed(self, values: Iterable[str]) -> Any:
        """Any number of values as one parameter."""
        return listed(values, postgres=self._is_postgres)

    def _matching(self, where: Filter | None) -> tuple[sa.ColumnElement[bool], ...]:
        return () if where is None else (matching(where, postgres=self._is_postgres),)


def _passages(rows: Rows) -> list[Passage]:
    # Passages of one document have its metadata in common: read once.
    read = {row[1]: row[-1] for row in rows}
    metadata = {document: from_json(stored) for document, stored in read.items()}
    return [Passage(*[*row[:-1], metadata[row[1]]]) for row in rows]


@lru_cache(4)
def _ranked_statement(*, postgres: bool, newest_first: bool) -> Statement:
    return Statement(_ranked((), postgres=postgres, newest_first=newest_first))


def _ranked(matching: Sequence[sa.ColumnElement[bool]], *, postgres: bool, newest_first: bool) -> sa.Select[Any]:
    """Ids and scores of the best `limit` chunks that match, or of the `ranked` newest of them."""
    if postgres or newest_first:
        query = _scored(postgres=postgres).where(*_searched(postgres=postgres))
    else:
        query = _scored_first().where(*_searched(postgres=postgres))
    if matching:
        query = query.join(DocumentRow, DocumentRow.id == ChunkRow.document_id).where(*matching)
    if newest_first:
        # In the keyword index's own order it stops there; in another all would be ranked first.
        order = ChunkRow.serial if postgres else _WORDS.c.rowid
        query = query.order_by(order.desc()).limit(_bound("ranked"))
    if newest_first or postgres:
        scored = query.subquery("scored")
        query = sa.select(scored).order_by(scored.c.score.desc(), scored.c.serial)
    best = query.limit(_bound("limit")).subquery("best")
    return sa.select(best.c.id, best.c.score).order_by(best.c.score.desc(), best.c.serial)


def _scored(*, postgres: bool) -> sa.Select[Any]:
    """Id, serial and rank score of the chunks that match."""
    score = _BM25
    if postgres:
        # 1: divided by 1 + log of the length, so that long passages do not win by length.
        score = sa.func.ts_rank_cd(_VECTOR, _wanted("match"), 1, type_=sa.Float)
    columns: list[Any] = [ChunkRow.id, ChunkRow.serial, score.label("score")]
    query = sa.select(*columns).where(_holds("match", postgres=postgres))
    return query if postgres else query.join(_WORDS, _WORDS.c.rowid == ChunkRow.serial)


def _scored_first() -> sa.Select[Any]:
    """The same on SQLite, best first, by the keyword index alone: of the others no row is read to see whose it is.

    The index's own `rank` gives this order too, for half as much time again.
    """
    match = _holds("match", postgres=False)
    score = _BM25.label("score")
    words = sa.select(_WORDS.c.rowid.label("serial"), score).where(match).order_by(score.desc())
    # Without a limit SQLite would join before it sorts; with less than all, what others stored since the words were
    # counted could take the place of what is looked for.
    found = words.limit(_ALL).subquery("found")
    columns: list[Any] = [ChunkRow.id, ChunkRow.serial, found.c.score]
    return sa.select(*columns).join_from(found, ChunkRow, ChunkRow.serial == found.c.serial)


def _bound(name: str) -> sa.BindParameter[int]:
    return sa.bindparam(name, type_=sa.Integer)


@lru_cache(64)
def _counting(terms: int, most: int, *, postgres: bool) -> Statement:
    """Passages with each of some terms, counted up to `most`."""
    looks: list[Any] = [_count(f"term{number}", most, postgres=postgres) for number in range(terms)]
    return Statement(sa.select(*looks))


def _count(name: str, most: int, *, postgres: bool) -> sa.ScalarSelect[int]:
    query: sa.Select[Any]
    if postgres:
        query = sa.select(ChunkRow.serial).where(ChunkRow.tenant_id == sa.bindparam("tenant", type_=sa.String))
    else:
        # Those of all tenants: to look at the rows would cost ten times as much.
        query = sa.select(_WORDS.c.rowid)
    bounded = query.where(_holds(name, postgres=postgres)).limit(most)
    return sa.select(sa.func.count()).select_from(bounded.subquery()).scalar_subquery()


@lru_cache(2)
def _named_statement(*, postgres: bool) -> Statement:
    return Statement(_named(postgres=postgres))


def _named(*, postgres: bool) -> sa.Select[Any]:
    """The chunks with the given `ids`."""
    return _select().where(*_searched(postgres=postgres), among(ChunkRow.id, "ids", postgres=postgres))


def _searched(*, postgres: bool) -> tuple[sa.ColumnElement[bool], ...]:
    column: Any = ChunkRow.collection_id
    if not postgres:
        # The plus keeps SQLite from its index by collection: it thinks that a collection has ten chunks, and
        # would rather read all of one than the few that are named or that the keyword index gives.
        column = sa.literal_column("+chunks.collection_id", sa.String)
    own = ChunkRow.tenant_id == sa.bindparam("tenant", type_=sa.String)
    return (own, among(column, "collections", postgres=postgres))


def _holds(name: str, *, postgres: bool) -> sa.ColumnElement[bool]:
    if postgres:
        return _VECTOR.op("@@", is_comparison=True)(_wanted(name))
    asked: sa.BindParameter[str] = sa.bindparam(name, type_=sa.Text)
    return sa.literal_column("chunk_words").op("MATCH", is_comparison=True)(asked)


def _select() -> sa.Select[Any]:
    columns: list[Any] = [*_COLUMNS]
    return sa.select(*columns).join(DocumentRow, DocumentRow.id == ChunkRow.document_id)


def _in(tenant_id: str, collection_ids: Sequence[str]) -> tuple[sa.ColumnElement[bool], ...]:
    return (ChunkRow.tenant_id == tenant_id, ChunkRow.collection_id.in_(collection_ids))


def _wanted(name: str) -> sa.ColumnElement[Any]:
    return sa.func.to_tsquery(sa.literal_column("'english'"), sa.bindparam(name, type_=sa.Text))


def _quoted(term: str, quote: str) -> str:
    """Inside quotes a term is a word to both databases, whatever is in it; neither takes a NUL."""
    return quote + term.replace("\x00", " ").replace(quote, quote * 2) + quote
