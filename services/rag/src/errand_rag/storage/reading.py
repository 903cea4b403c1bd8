"""Single queries of the search path."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from errand_common.db import Database
from errand_common.errors import Unavailable
from errand_common.statements import Compiled, Statement
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

_WAIT_SECONDS = 5.0


class Queries:
    """One query each, of a moment of its own; waits for no writer.

    On SQLite each is one hop to a thread and back. The asynchronous driver makes nine: begin, cursor,
    execute, fetch, each closing; under load those are most of a search's time.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._engine: sa.Engine | None = None
        if not database.is_postgres:
            self._engine = _reading_engine(database)

    async def rows(
        self, tenant_id: str, query: sa.Select[Any], values: Mapping[str, Any] | None = None
    ) -> Sequence[tuple[Any, ...]]:
        """All rows of the query. Raises Unavailable when the database is away."""
        if self._engine is not None:
            return await asyncio.to_thread(_all, self._engine, query, values)
        async with self._database.transaction(tenant_id, read_only=True) as session:
            rows: Sequence[tuple[Any, ...]] = (await session.execute(query, values)).all()
            return rows

    async def run(self, tenant_id: str, statement: Statement, values: Mapping[str, Any]) -> Sequence[tuple[Any, ...]]:
        """All rows of a statement that was built once, as the driver gives them: JSON as text.

        Building a query and loading its rows costs SQLAlchemy more than most queries cost the database.
        Raises Unavailable when the database is away.
        """
        if self._engine is not None:
            return await asyncio.to_thread(_run, self._engine, statement.on_sqlite, values)
        (rows,) = await self._database.run(tenant_id, (statement, values))
        return rows


def _reading_engine(database: Database) -> sa.Engine:
    engine = sa.create_engine(
        make_url(database.url).set(drivername="sqlite"),
        isolation_level="AUTOCOMMIT",
        connect_args={"timeout": _WAIT_SECONDS},
    )

    @sa.event.listens_for(engine, "connect")
    def refuse_writes(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA query_only=ON")

    # Closed with the database that it reads.
    sa.event.listen(database.engine.sync_engine, "engine_disposed", lambda _: engine.dispose())
    return engine


def _all(engine: sa.Engine, query: sa.Select[Any], values: Mapping[str, Any] | None) -> Sequence[tuple[Any, ...]]:
    with _waiting(), Session(engine) as session:
        rows: Sequence[tuple[Any, ...]] = session.execute(query, values).all()
        return rows


def _run(engine: sa.Engine, statement: Compiled, values: Mapping[str, Any]) -> Sequence[tuple[Any, ...]]:
    with _waiting(), engine.connect() as connection:
        rows: Sequence[tuple[Any, ...]] = connection.exec_driver_sql(
            statement.text, tuple(statement.arguments(values))
        ).fetchall()
        return rows


@contextmanager
def _waiting() -> Iterator[None]:
    try:
        yield
    except sa.exc.OperationalError as error:
        raise Unavailable("database", "The database is busy; try again.") from error
