"""Statements that are built once and run alone: for the few that every step of a run waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it has no types
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.ext.asyncio import AsyncEngine

_DIALECT = dialect()  # type: ignore[no-untyped-call]  # of SQLAlchemy


class Statement:
    """A statement whose values are parameters by name; Postgres gets them as they are."""

    def __init__(self, clause: sa.Insert | sa.Update | sa.Delete) -> None:
        self.clause = clause
        self._compiled = clause.compile(dialect=_DIALECT)
        self._text = str(self._compiled)
        self._order: Sequence[str] = self._compiled.positiontup or ()

    async def run(self, engine: AsyncEngine, begin: str, values: Mapping[str, Any]) -> Sequence[Any]:
        """What it returns, after `begin` and before a COMMIT: three round trips to Postgres.

        Past SQLAlchemy's session, which costs more than the statement itself. Raises DBAPIError.
        """
        given = self._compiled.construct_params(dict(values))
        async with engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            try:
                await driver.execute(begin)
                rows: Sequence[Any] = await driver.fetch(self._text, *(given[name] for name in self._order))
                await driver.execute("COMMIT")
            except BaseException as error:
                # Whatever state it is in, nobody gets it again.
                await connection.invalidate()
                if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError):
                    gone = isinstance(error, asyncpg.InterfaceError)
                    raise sa.exc.DBAPIError(self._text, None, error, connection_invalidated=gone) from error
                raise
        return rows
