"""Statements that are built once: for the few that every step of a run waits for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it has no types
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.ext.asyncio import AsyncEngine

_DIALECT = dialect()  # type: ignore[no-untyped-call]  # of SQLAlchemy


class Statement:
    """A statement whose values are parameters by name."""

    def __init__(self, clause: sa.Select[Any] | sa.Insert | sa.Update | sa.Delete) -> None:
        self.clause = clause
        self._compiled = clause.compile(dialect=_DIALECT)
        self.text = str(self._compiled)
        self._order: Sequence[str] = self._compiled.positiontup or ()
        self._processors = {
            name: bind.type.dialect_impl(_DIALECT).bind_processor(_DIALECT)
            for name, bind in self._compiled.binds.items()
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
                text = statement.text
                results.append(await driver.fetch(text, *statement.arguments(values)))
            await driver.execute("COMMIT")
        except BaseException as error:
            # Whatever state it is in, nobody gets it again.
            await connection.invalidate()
            if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError):
                gone = isinstance(error, asyncpg.InterfaceError)
                raise sa.exc.DBAPIError(text, None, error, connection_invalidated=gone) from error
            raise
    return results


def _processed(processor: Callable[[Any], Any] | None, value: Any) -> Any:
    return value if processor is None else processor(value)
