"""All rows of a tenant, found by the tables' own columns: a new table belongs to it with no further word."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from errand_common.db import Database

_BATCH = 1_000


async def erase_tenant(
    database: Database, metadata: sa.MetaData, tenant_id: str, *, keep: frozenset[str] = frozenset()
) -> dict[str, int]:
    """Deletes the tenant's rows of each table that has `tenant_id`; how many, by table, none left out.

    In small transactions, rows before those they point to: what broke off is done again and finds the rest.
    """
    erased = {}
    for table in reversed(metadata.sorted_tables):
        if "tenant_id" in table.columns and table.name not in keep:
            erased[table.name] = await _emptied(database, table, tenant_id)
    return {table: rows for table, rows in erased.items() if rows}


async def _emptied(database: Database, table: sa.Table, tenant_id: str) -> int:
    key = list(table.primary_key.columns)
    mine = table.c.tenant_id == tenant_id
    statement = sa.delete(table).where(mine, sa.tuple_(*key).in_(sa.select(*key).where(mine).limit(_BATCH)))
    total, deleted = 0, _BATCH
    while deleted == _BATCH:
        async with database.transaction(tenant_id) as session:
            result: Any = await session.execute(statement)
        deleted = result.rowcount
        total += deleted
    return total
