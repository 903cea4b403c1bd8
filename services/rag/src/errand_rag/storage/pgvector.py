"""Vectors in Postgres, by the extension pgvector.

One table per index, as Chroma has one collection: in one graph for all, a search would wade through
the vectors of other collections; each embedding model has its own dimensions; and dropping a table
gives its disk space back at once.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence
from collections.abc import Collection as Group
from functools import lru_cache
from logging import getLogger
from typing import Any

import sqlalchemy as sa
from errand_common.db import Database
from errand_common.errors import Unavailable
from pgvector.sqlalchemy import VECTOR
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.ext.asyncio import AsyncSession

from errand_rag.domain.models import Vector, VectorEntry, VectorMatch, collection_of
from errand_rag.storage.similarity import bounded

_logger = getLogger(__name__)

_MAX_BATCH = 1000
_MAX_TABLES = 256
_PREFIX = "vectors_"
# What pgvector can build a graph over; wider vectors are compared one by one.
_MAX_GRAPH_DIMENSIONS = 2000
_GRAPH = {"m": 16, "ef_construction": 64}
_SESSION = (
    # Filters and wide searches want more than the graph gives at first: it goes on looking.
    "SET hnsw.ef_search = 200",
    "SET hnsw.iterative_scan = strict_order",
    # A plan for any limit and any documents fits none: it reads the whole table where the graph would do.
    "SET plan_cache_mode = force_custom_plan",
    # The graph is read from memory; at the cost of a disk's far pages the whole table seems cheaper.
    "SET random_page_cost = 1.1",
    # The extension may live in a schema of its own.
    """SELECT set_config('search_path', concat_ws(', ', current_setting('search_path'), (
        SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace
        WHERE extname = 'vector'
    )), false)""",
)
_RELATIONS = sa.table(
    "pg_class", sa.column("relname"), sa.column("relnamespace"), sa.column("relkind"), schema="pg_catalog"
)
_NO_TABLE, _NO_EXTENSION = "42P01", ("42501", "0A000", "58P01")


class PgVectorStore:
    """The vector store port on Postgres. The database is this store's own, closed by `close`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        sa.event.listen(database.engine.sync_engine, "connect", _prepare_session)

    async def upsert(self, collection_id: str, entries: Sequence[VectorEntry]) -> None:
        """Stores the entries; same chunk id replaces."""
        if not entries:
            return
        table = _table(collection_id)
        statement = insert(table)
        statement = statement.on_conflict_do_update(
            index_elements=[table.c.chunk_id],
            set_={"document_id": statement.excluded.document_id, "embedding": statement.excluded.embedding},
        )
        async with self._transaction() as session:
            await (await session.connection()).run_sync(_make_table, collection_id, len(entries[0].vector))
            for start in range(0, len(entries), _MAX_BATCH):
                rows = [_row(entry) for entry in entries[start : start + _MAX_BATCH]]
                await session.execute(statement, rows)

    async def query(
        self, collection_id: str, vector: Vector, limit: int, *, documents: Group[str] | None = None
    ) -> list[VectorMatch]:
        """The nearest, of these documents when they are given, best first; none when there are none."""
        table = _table(collection_id)
        distance = table.c.embedding.cosine_distance(list(vector))
        query = sa.select(table.c.chunk_id, distance).order_by(distance).limit(limit)
        if documents is not None:
            query = query.where(_among(table.c.document_id, documents))
        return [VectorMatch(id_, bounded(1.0 - far)) for id_, far in await self._rows(query)]

    async def similarities(self, collection_id: str, vector: Vector, chunk_ids: Sequence[str]) -> dict[str, float]:
        """Cosine similarity of the chunks that are stored."""
        table = _table(collection_id)
        distance = table.c.embedding.cosine_distance(list(vector))
        query = sa.select(table.c.chunk_id, distance).where(_among(table.c.chunk_id, chunk_ids))
        return {id_: bounded(1.0 - far) for id_, far in await self._rows(query)}

    async def fetch(self, collection_id: str, chunk_ids: Sequence[str]) -> dict[str, Vector]:
        """The vectors of the chunks that are stored."""
        table = _table(collection_id)
        query = sa.select(table.c.chunk_id, table.c.embedding).where(_among(table.c.chunk_id, chunk_ids))
        return {id_: list(vector) for id_, vector in await self._rows(query)}

    async def existing(self, collection_id: str, chunk_ids: Sequence[str]) -> set[str]:
        """Which of the chunks have a vector."""
        table = _table(collection_id)
        return {
            id_ for (id_,) in await self._rows(sa.select(table.c.chunk_id).where(_among(table.c.chunk_id, chunk_ids)))
        }

    async def chunk_documents(self, collection_id: str) -> dict[str, str]:
        """The document of every chunk that is stored."""
        table = _table(collection_id)
        rows = await self._rows(sa.select(table.c.chunk_id, table.c.document_id))
        return {id_: document_id for id_, document_id in rows}  # noqa: C416 - rows are no tuples to a type checker

    async def delete_chunks(self, collection_id: str, chunk_ids: Sequence[str]) -> None:
        """Removes these chunks' vectors; nothing to remove is fine."""
        table = _table(collection_id)
        await self._change(sa.delete(table).where(_among(table.c.chunk_id, chunk_ids)))

    async def compact(self) -> None:
        """Nothing to do: a dropped index is gone from the disk, deleted rows are autovacuum's."""

    async def count_document(self, collection_id: str, document_id: str) -> int:
        """Vectors of one document."""
        table = _table(collection_id)
        return await self._count(sa.select(sa.func.count()).where(table.c.document_id == document_id))

    async def delete_document(self, collection_id: str, document_id: str) -> None:
        """Removes a document's vectors; nothing to remove is fine."""
        table = _table(collection_id)
        await self._change(sa.delete(table).where(table.c.document_id == document_id))

    async def drop(self, collection_id: str) -> None:
        """Removes the collection's index; nothing to remove is fine."""
        await self._change(sa.schema.DropTable(_table(collection_id), if_exists=True))

    async def count(self, collection_id: str) -> int:
        """Vectors in the collection."""
        return await self._count(sa.select(sa.func.count()).select_from(_table(collection_id)))

    async def indexes(self, collection_ids: Group[str]) -> frozenset[str]:
        """Names of all generations of these collections' indexes that are stored."""
        rows = await self._rows(_tables(sa.func.starts_with(_RELATIONS.c.relname, _PREFIX)))
        names = (name.removeprefix(_PREFIX) for (name,) in rows)
        return frozenset(name for name in names if collection_of(name) in collection_ids)

    async def ping(self) -> None:
        """Raises Unavailable when the store cannot answer."""
        await self._database.ping()

    async def close(self) -> None:
        """Closes the connections."""
        await self._database.close()

    async def _rows(self, query: sa.Select[Any]) -> Sequence[Any]:
        """What is found; nothing in an index that is not there."""
        with contextlib.suppress(_Missing):
            async with self._transaction(read_only=True) as session:
                rows: Sequence[Any] = (await session.execute(query)).all()
                return rows
        return ()

    async def _count(self, query: sa.Select[Any]) -> int:
        rows = await self._rows(query)
        return int(rows[0][0]) if rows else 0

    async def _change(self, statement: sa.Executable) -> None:
        with contextlib.suppress(_Missing):
            async with self._transaction() as session:
                await session.execute(statement)

    @contextlib.asynccontextmanager
    async def _transaction(self, *, read_only: bool = False) -> AsyncIterator[AsyncSession]:
        """Raises _Missing for an index that is not there, Unavailable for all that may work later."""
        try:
            async with self._database.transaction(read_only=read_only) as session:
                yield session
        except TimeoutError as error:
            raise Unavailable("pgvector") from error
        except sa.exc.DBAPIError as error:
            if _state(error) == _NO_TABLE:
                raise _Missing from None
            _logger.warning("pgvector: call failed", exc_info=error)
            raise Unavailable("pgvector") from error


class _Missing(Exception):  # noqa: N818 - no error: an index that is not there is empty
    """The index has no table."""


def install_extension(url: str, *, schema: str) -> None:
    """Makes sure that the database has pgvector. Raises RuntimeError that names the cure."""
    engine = sa.create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=sa.pool.NullPool)
    try:
        with engine.begin() as connection:
            # Asked for first: creating needs a right on the database that a service's role may lack.
            there = connection.scalar(sa.text("SELECT count(*) FROM pg_extension WHERE extname = 'vector'"))
            if not there:
                connection.exec_driver_sql(f'CREATE EXTENSION IF NOT EXISTS vector SCHEMA "{schema}"')
    except sa.exc.DBAPIError as error:
        if _state(error) not in _NO_EXTENSION:
            raise
        raise RuntimeError(
            "the database has no extension 'vector': install pgvector 0.8 or later on its server and let an "
            "administrator run CREATE EXTENSION vector; or set ERRAND_RAG_VECTOR_STORE to chroma"
        ) from error
    finally:
        engine.dispose()


def _prepare_session(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for statement in _SESSION:
        cursor.execute(statement)
    cursor.close()
    connection.commit()


def _make_table(connection: Connection, index: str, dimensions: int) -> None:
    """Two writers may come first at once: one makes the table, the other waits and finds it."""
    name = _table(index).name
    if connection.scalar(_is_there(name)):
        return
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(name, 0))))
    if not connection.scalar(_is_there(name)):
        _new_table(index, dimensions).create(connection, checkfirst=False)


def _is_there(name: str) -> sa.Select[Any]:
    # By a query of its own moment: to_regclass may remember that there was none.
    return sa.select(_tables(_RELATIONS.c.relname == name).exists())


def _tables(named: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Names of this schema's tables."""
    here = _RELATIONS.c.relnamespace == sa.literal_column("current_schema()::regnamespace")
    return sa.select(_RELATIONS.c.relname).where(named, here, _RELATIONS.c.relkind == "r")


@lru_cache(_MAX_TABLES)
def _table(index: str) -> sa.Table:
    """One object for each index: statements are compiled once for each."""
    return _new_table(index, None)


def _new_table(index: str, dimensions: int | None) -> sa.Table:
    table = sa.Table(
        _PREFIX + index,
        sa.MetaData(),
        sa.Column("chunk_id", sa.Text, primary_key=True),
        sa.Column("document_id", sa.Text, nullable=False, index=True),
        sa.Column("embedding", VECTOR(dimensions), nullable=False),
    )
    if dimensions is not None and dimensions <= _MAX_GRAPH_DIMENSIONS:
        sa.Index(
            f"hnsw_{index}",
            table.c.embedding,
            postgresql_using="hnsw",
            postgresql_with=_GRAPH,
            postgresql_ops={"embedding": "vector_cosine_ops"},
        )
    return table


def _row(entry: VectorEntry) -> dict[str, Any]:
    return {"chunk_id": entry.chunk_id, "document_id": entry.document_id, "embedding": list(entry.vector)}


def _among(column: sa.Column[str], values: Group[str]) -> sa.ColumnElement[bool]:
    # One array, not a parameter for each: those are limited, and each count is a statement of its own.
    return column == sa.any_(sa.bindparam(None, list(values), type_=ARRAY(sa.Text)))


def _state(error: sa.exc.DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", "") or "")
