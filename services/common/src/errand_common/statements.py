"""Statements that are built once: for the few that every step of a run waits for."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import asyncpg  # type: ignore[import-untyped]  # it has no types
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.asyncpg import dialect as postgres_dialect
from sqlalchemy.dialects.sqlite.aiosqlite import dialect as sqlite_dialect
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql.compiler import SQLCompiler

_POSTGRES = postgres_dialect()  # type: ignore[no-untyped-call]  # of SQLAlchemy
_SQLITE = sqlite_dialect()


class Statement:
    """A statement whose values are parameters by name."""

    def __init__(self, clause: sa.Select[Any] | sa.Insert | sa.Update | sa.Delete) -> None:
        self.clause = clause
        self.on_postgres, self.on_sqlite = Compiled(clause, _POSTGRES), Compiled(clause, _SQLITE)


class Compiled:
    """A statement as one database's driver takes it."""

    def __init__(self, clause: sa.ClauseElement, dialect: sa.Dialect) -> None:
        self._compiled = cast("SQLCompiler", clause.compile(dialect=dialect))
        self.text = str(self._compiled)
        self._order: Sequence[str] = self._compiled.positiontup or ()
        self._processors = {
            name: bind.type.dialect_impl(dialect).bind_processor(dialect) for name, bind in self._compiled.binds.items()
        }

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """The values in the order that the text has them, as the driver takes them."""
        given = self._compiled.construct_params(dict(values))
        return [_processed(self._processors[name], given[name]) for name in self._order]


Work = tuple[Statement, Mapping[str, Any]]


async def run_on_postgres(engine: AsyncEngine, begin: str, work: Sequence[Work]) -> list[Sequence[Any]]:
    """What each statement returns, after `begin` and before a COMMIT; a round trip for each.

    Past SQLAlchemy's session, which costs more than the statements themselves. Raises DBAPIError.
    """
    results: list[Sequence[Any]] = []
    async with engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        text = begin
        try:
            await driver.execute(begin)
            for statement, values in work:
                text = statement.on_postgres.text
                results.append(await driver.fetch(text, *statement.on_postgres.arguments(values)))
            await driver.execute("COMMIT")
        except BaseException as error:
            # Whatever state it is in, nobody gets it again.
            await connection.invalidate()
            if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError):
                gone = isinstance(error, asyncpg.InterfaceError)
                raise sa.exc.DBAPIError(text, None, error, connection_invalidated=gone) from error
            raise
    return results


async def run_on_sqlite(engine: AsyncEngine, work: Sequence[Work], *, durable: bool) -> list[Sequence[Any]]:
    """What each statement returns, as the driver gives it; a change of threads for each, where a session makes four.

    What is `durable` is on the disk at the end. Raises DBAPIError.
    """
    results: list[Sequence[Any]] = []
    async with engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        text = "BEGIN IMMEDIATE"
        try:
            if durable:
                await driver.execute_fetchall("PRAGMA synchronous=FULL")
            await driver.execute_fetchall(text)
            for statement, values in work:
                text = statement.on_sqlite.text
                results.append(list(await driver.execute_fetchall(text, statement.on_sqlite.arguments(values))))
            await driver.commit()
            if durable:
                await driver.execute_fetchall("PRAGMA synchronous=NORMAL")
        except BaseException as error:
            # Whatever state it is in, nobody gets it again.
            await connection.invalidate()
            if isinstance(error, sqlite3.Error):
                raise sa.exc.DBAPIError.instance(text, None, error, sqlite3.Error) from error
            raise
    return results


def _processed(processor: Callable[[Any], Any] | None, value: Any) -> Any:
    return value if processor is None else processor(value)
