"""Every query on what is stored of a person or a conversation, found by the tables' own columns and keys.

A table with `principal_id` is a person's, one whose foreign key leads to such a table too. A new table so
belongs to what is exported and erased with no further word; SHARED names those that are nobody's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from errand_agent.storage.models import Base, ConversationRow

# The tenant's own definitions and rules.
SHARED = frozenset({"agents", "workflows", "retentions", "prompts", "prompt_aliases", "webhooks"})
# Columns that name a person beside the owner; erasing empties them.
_MENTIONS = ("decided_by",)
# Made from other columns, and for machines only.
_DERIVED = frozenset({"embedding"})
_PAGE = 200


def tables_of_people() -> dict[str, sa.Table]:
    """Tables that hold what belongs to a person, those that others point to first."""
    return {
        table.name: table
        for table in Base.metadata.sorted_tables
        if "tenant_id" in table.columns and table.name not in SHARED
    }


def _owned_by(table: sa.Table, person: str) -> sa.ColumnElement[bool]:
    """Rows of a person; raises LookupError for a table whose owner cannot be told."""
    if "principal_id" in table.columns:
        return table.c.principal_id == person
    return _below(table, lambda above: _owned_by(above, person))


def _below(table: sa.Table, rows: Any) -> sa.ColumnElement[bool]:
    for key in table.foreign_keys:
        above = key.column.table
        return key.parent.in_(sa.select(key.column).where(rows(above)))
    raise LookupError(f"{table.name} belongs to nobody: give it principal_id or a foreign key, or name it in SHARED")


def _of_conversation(table: sa.Table, conversation_id: str) -> sa.ColumnElement[bool] | None:
    """Rows of a conversation; None for a table that knows of none."""
    if table.name == ConversationRow.__tablename__:
        return table.c.id == conversation_id
    if "conversation_id" in table.columns:
        return table.c.conversation_id == conversation_id
    above = [key.column.table for key in table.foreign_keys]
    if not above or _of_conversation(above[0], conversation_id) is None:
        return None
    return _below(table, lambda row: _of_conversation(row, conversation_id))


class PeopleRepository:
    """What people of one transaction's tenant left behind."""

    def __init__(self, session: AsyncSession, tenant_id: str) -> None:
        self._session, self._tenant_id = session, tenant_id

    async def rows_of(self, person: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """All rows of a person with their tables' names."""
        for name, table in tables_of_people().items():
            async for row in self._rows(table, _owned_by(table, person)):
                yield name, row

    async def rows_of_conversation(self, conversation_id: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """All rows of a conversation with their tables' names."""
        for name, table in tables_of_people().items():
            wanted = _of_conversation(table, conversation_id)
            if wanted is not None:
                async for row in self._rows(table, wanted):
                    yield name, row

    async def _rows(self, table: sa.Table, wanted: sa.ColumnElement[bool]) -> AsyncIterator[dict[str, Any]]:
        """Page by page in the order of the key."""
        key = list(table.primary_key.columns)
        query = sa.select(table).where(table.c.tenant_id == self._tenant_id, wanted).order_by(*key).limit(_PAGE)
        after: sa.ColumnElement[bool] = sa.true()
        while True:
            found = (await self._session.execute(query.where(after))).mappings().all()
            for row in found:
                yield _readable(dict(row))
            if len(found) < _PAGE:
                return
            last = found[-1]
            after = sa.tuple_(*key) > sa.tuple_(*(sa.literal(last[column.name], column.type) for column in key))

    async def count(self, person: str) -> dict[str, int]:
        """Rows of a person by table, those with none left out."""
        counts = {}
        for name, table in tables_of_people().items():
            query = sa.select(sa.func.count()).select_from(table)
            found = await self._session.scalar(
                query.where(table.c.tenant_id == self._tenant_id, _owned_by(table, person))
            )
            if found:
                counts[name] = int(found)
        return counts

    async def erase(self, person: str) -> None:
        """Deletes all rows of a person, and the person's name in the rows of others."""
        tables = tables_of_people()
        for table in reversed(tables.values()):
            mine = table.c.tenant_id == self._tenant_id
            for column in (table.c[name] for name in _MENTIONS if name in table.columns):
                await self._session.execute(sa.update(table).where(mine, column == person).values({column.name: ""}))
            await self._session.execute(sa.delete(table).where(mine, _owned_by(table, person)))


def _readable(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in row.items()
        if name not in _DERIVED
    }
