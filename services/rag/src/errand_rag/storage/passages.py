"""Queries of chunks: by words and by id."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from errand_common.db import Database

from errand_rag.domain.filters import Filter
from errand_rag.domain.models import Passage
from errand_rag.storage.filtering import where as matching
from errand_rag.storage.models import ChunkRow, DocumentRow
from errand_rag.storage.reading import Queries

# Bound variables of one statement, below SQLite's and asyncpg's limits.
_MAX_IDS = 5000
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

    async def by_keywords(
        self,
        tenant_id: str,
        collection_ids: Sequence[str],
        terms: Sequence[str],
        limit: int,
        where: Filter | None = None,
    ) -> list[tuple[Passage, float]]:
        """Passages that hold any of the terms with their rank score, best first."""
        ranked = _postgres_query(terms) if self._is_postgres else _sqlite_query(terms)
        ranked = ranked.where(*_in(tenant_id, collection_ids))
        if where is not None:
            ranked = ranked.join(DocumentRow, DocumentRow.id == ChunkRow.document_id).where(*self._matching(where))
        # Thousands may match: their texts are read only of the few that are given.
        best = ranked.order_by(sa.desc("score"), ChunkRow.serial).limit(limit).subquery("best")
        query = _select(best.c.score).join(best, best.c.serial == ChunkRow.serial)
        query = query.order_by(best.c.score.desc(), ChunkRow.serial)
        rows = await self._queries.rows(tenant_id, query)
        return [(Passage(*row[:-1]), float(row[-1])) for row in rows]

    async def by_ids(
        self, tenant_id: str, collection_ids: Sequence[str], chunk_ids: Iterable[str], where: Filter | None = None
    ) -> Mapping[str, Passage]:
        """Those of the chunks whose rows exist and whose documents match."""
        ids = list(chunk_ids)[:_MAX_IDS]
        if not ids:
            return {}
        query = _select().where(*_in(tenant_id, collection_ids), ChunkRow.id.in_(ids), *self._matching(where))
        rows = await self._queries.rows(tenant_id, query)
        return {row[0]: Passage(*row) for row in rows}

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
        return [Passage(*row) for row in rows]

    def _matching(self, where: Filter | None) -> tuple[sa.ColumnElement[bool], ...]:
        return () if where is None else (matching(where, postgres=self._is_postgres),)


def _select(*more: sa.ColumnElement[float]) -> sa.Select[Any]:
    columns: list[Any] = [*_COLUMNS, *more]
    return sa.select(*columns).join(DocumentRow, DocumentRow.id == ChunkRow.document_id)


def _in(tenant_id: str, collection_ids: Sequence[str]) -> tuple[sa.ColumnElement[bool], ...]:
    return (ChunkRow.tenant_id == tenant_id, ChunkRow.collection_id.in_(collection_ids))


def _sqlite_query(terms: Sequence[str]) -> sa.Select[Any]:
    words = sa.table("chunk_words", sa.column("rowid", sa.Integer))
    match = " OR ".join(_quoted(term, '"') for term in terms)
    # Title and heading tell more of a passage than a word of its text; bm25 is better when smaller.
    score = sa.literal_column("-bm25(chunk_words, 2.0, 2.0, 1.0)", sa.Float)
    return (
        sa.select(ChunkRow.serial, score.label("score"))
        .join(words, words.c.rowid == ChunkRow.serial)
        .where(sa.text("chunk_words MATCH :match").bindparams(match=match))
    )


def _postgres_query(terms: Sequence[str]) -> sa.Select[Any]:
    words: sa.ColumnElement[Any] = sa.literal_column("chunks.words")
    # Postgres reads backslashes inside quotes too.
    match = " | ".join(_quoted(term.replace("\\", " "), "'") for term in terms)
    wanted = sa.func.to_tsquery(sa.literal_column("'english'"), match)
    # 1: divided by 1 + log of the length, so that long passages do not win by length.
    score = sa.func.ts_rank_cd(words, wanted, 1, type_=sa.Float)
    return sa.select(ChunkRow.serial, score.label("score")).where(words.op("@@", is_comparison=True)(wanted))


def _quoted(term: str, quote: str) -> str:
    """Inside quotes a term is a word to both databases, whatever is in it; neither takes a NUL."""
    return quote + term.replace("\x00", " ").replace(quote, quote * 2) + quote
