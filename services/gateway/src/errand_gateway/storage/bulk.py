"""Many rows at once, handed to the driver as they are.

A batch is written on the loop that answers requests: what SQLAlchemy does for each value of each row would hold up
what is asked meanwhile.
"""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

import sqlalchemy as sa
from errand_common.db import UtcDateTime
from sqlalchemy.dialects.postgresql.asyncpg import dialect as postgres
from sqlalchemy.dialects.sqlite.aiosqlite import dialect as sqlite
from sqlalchemy.ext.asyncio import AsyncSession

_SQLITE: Final = sqlite()
_DIALECTS: Final = (postgres(), _SQLITE)  # type: ignore[no-untyped-call]  # of SQLAlchemy
_as_text: Final = UtcDateTime().dialect_impl(_SQLITE).bind_processor(_SQLITE) or str


class BulkInsert:
    """Inserts records into a table; `where` names the attribute of a record that a column comes from by another name.

    Columns may hold texts, numbers and moments.
    """

    def __init__(self, table: sa.Table, where: Mapping[str, str]) -> None:
        names = [column.name for column in table.columns]
        self._texts = {dialect.name: str(table.insert().compile(dialect=dialect)) for dialect in _DIALECTS}
        self._values = attrgetter(*(where.get(name, name) for name in names))
        self._moments = [place for place, column in enumerate(table.columns) if isinstance(column.type, UtcDateTime)]

    async def execute(self, session: AsyncSession, records: Sequence[Any]) -> None:
        """Inserts them in one statement, none when there are none."""
        if not records:
            return
        rows = [self._values(record) for record in records]
        connection = await session.connection()
        if connection.dialect.name == _SQLITE.name:
            rows = [self._written(row) for row in rows]
        await connection.exec_driver_sql(self._texts[connection.dialect.name], rows)

    def _written(self, row: Sequence[Any]) -> tuple[Any, ...]:
        """As SQLite keeps moments: as texts."""
        values = list(row)
        for place in self._moments:
            values[place] = _as_text(values[place])
        return tuple(values)
