"""Queries of the search path."""

import asyncio
import json
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from logging import getLogger
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from errand_common.db import Database
from errand_common.errors import Unavailable
from errand_common.statements import Statement
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import make_url

_logger = getLogger(__name__)
_WAIT_SECONDS = 5.0
# What may work later; a wrong statement never will. The low byte of a code tells its kind.
_AWAY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
_PRIMARY = 0xFF
# SQLite's own 2 MiB hold little of a large keyword index: every search would read it from the file again.
_CACHE_KIB = 16 * 1024
# Pages that are mapped are read without a call and a copy each: half of the time of reading a search's rows. The
# system's own cache of the file holds them, not this process's memory. SQLite maps no more than this.
_MAPPED_BYTES = 2 * 1024**3
T = TypeVar("T")
# A statement that was built once, or a query made for this search, with its values.
Asked = tuple[Statement | sa.Select[Any], Mapping[str, Any]]
Rows = Sequence[Sequence[Any]]
Work = Generator[Asked, Any, T]


@dataclass(frozen=True, slots=True)
class _Returned(Generic[T]):
    value: T


class Queries:
    """Reads a moment each; waits for no writer.

    On SQLite work of any number of queries is one hop to a thread and back. The asynchronous driver makes
    nine for each: begin, cursor, execute, fetch, each closing; under load those are most of a search's time.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._engine: sa.Engine | None = None
        self._watch: sqlite3.Connection | None = None
        if not database.is_postgres:
            self._engine = _reading_engine(database)
            sa.event.listen(database.engine.sync_engine, "engine_disposed", lambda _: self._stop_watching())

    def version(self) -> int | None:
        """Another number after every commit to the database, whoever made it; None where that is not known at once.

        Asked of SQLite on this thread: it looks at memory that its processes share, and waits for nobody.
        """
        if self._engine is None:
            return None
        try:
            if self._watch is None:
                self._watch = sqlite3.connect(self._engine.url.database or "", timeout=0.0, check_same_thread=False)
            return int(self._watch.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.OperationalError:
            return None

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    async def rows(
        self, tenant_id: str, query: Statement | sa.Select[Any], values: Mapping[str, Any] | None = None
    ) -> Rows:
        """All rows of one query. As `follow`."""
        return await self.follow(tenant_id, _alone(query, values or {}))

    async def follow(self, tenant_id: str, work: Work[T]) -> T:
        """What the work returns, which gets the rows of each query that it yields.

        Rows of a statement that was built once are as the driver gives them, JSON as text: building a query
        and loading its rows costs SQLAlchemy more than most queries cost the database. Raises Unavailable
        when the database is away.
        """
        if self._engine is not None:
            return await asyncio.to_thread(_followed, self._engine, work)
        step = _advanced(work)
        while not isinstance(step, _Returned):
            step = _advanced(work, await self._on_postgres(tenant_id, *step))
        return step.value

    async def _on_postgres(self, tenant_id: str, query: Statement | sa.Select[Any], values: Mapping[str, Any]) -> Rows:
        if isinstance(query, Statement):
            (rows,) = await self._database.run(tenant_id, (query, values))
            return rows
        async with self._database.transaction(tenant_id, read_only=True) as session:
            found: Rows = (await session.execute(query, values)).all()
            return found


def among(column: Any, name: str, *, postgres: bool) -> sa.ColumnElement[bool]:
    """One parameter for any number of values, so that it stays one statement."""
    if postgres:
        found: sa.ColumnElement[bool] = column == sa.any_(sa.bindparam(name, type_=ARRAY(sa.Text)))
        return found
    values = sa.func.json_each(sa.bindparam(name, type_=sa.Text)).table_valued("value")
    chosen: sa.ColumnElement[bool] = column.in_(sa.select(values.c.value))
    return chosen


def listed(values: Iterable[str], *, postgres: bool) -> Any:
    """Any number of values as the one parameter that `among` takes."""
    return list(values) if postgres else json.dumps(list(values))


def from_json(value: Any) -> Any:
    """A JSON column, whether the driver gave it as text or SQLAlchemy has read it."""
    return json.loads(value) if isinstance(value, str) else value


def _reading_engine(database: Database) -> sa.Engine:
    engine = sa.create_engine(
        make_url(database.url).set(drivername="sqlite"),
        isolation_level="AUTOCOMMIT",
        connect_args={"timeout": _WAIT_SECONDS},
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA query_only=ON")
        connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        connection.execute(f"PRAGMA mmap_size={_MAPPED_BYTES}")

    # Closed with the database that it reads.
    sa.event.listen(database.engine.sync_engine, "engine_disposed", lambda _: engine.dispose())
    return engine


def _alone(query: Statement | sa.Select[Any], values: Mapping[str, Any]) -> Work[Rows]:
    rows: Rows = yield query, values
    return rows


def _followed(engine: sa.Engine, work: Work[T]) -> T:
    with _waiting(), engine.connect() as connection:
        step = _advanced(work)
        while not isinstance(step, _Returned):
            step = _advanced(work, _on_sqlite(connection, *step))
        return step.value


def _advanced(work: Work[T], rows: Rows | None = None) -> Asked | _Returned[T]:
    """The next query, or what the work returned."""
    try:
        return work.send(rows)
    except StopIteration as end:
        return _Returned(end.value)


def _on_sqlite(connection: sa.Connection, query: Statement | sa.Select[Any], values: Mapping[str, Any]) -> Rows:
    if isinstance(query, Statement):
        driver: Any = connection.connection.driver_connection
        rows: Rows = driver.execute(query.on_sqlite.text, query.on_sqlite.arguments(values)).fetchall()
        return rows
    found: Rows = connection.execute(query, values).all()
    return found


@contextmanager
def _waiting() -> Iterator[None]:
    try:
        yield
    except (sa.exc.OperationalError, sqlite3.OperationalError) as error:
        cause: Any = getattr(error, "orig", error)
        if cause.sqlite_errorcode & _PRIMARY not in _AWAY:
            raise
        _logger.warning("the database is not available: %s", cause)
        raise Unavailable("database", "The database is busy; try again.") from error
