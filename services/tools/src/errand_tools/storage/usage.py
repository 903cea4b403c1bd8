"""Counts of calls in the database."""

from collections.abc import Iterable
from datetime import date
from typing import Any, cast

from errand_common.db import Database
from sqlalchemy import Table, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from errand_tools.domain.tools import ExecutionStatus
from errand_tools.domain.usage import Usage, UsageKey, UsageStore
from errand_tools.storage.models import ToolUsageRow

_TABLE = cast("Table", ToolUsageRow.__table__)
_KEY = [column.name for column in _TABLE.primary_key.columns]
# SQLite takes 32,766 values in a statement, of ten columns each.
_ROWS = 1_000


class SqlUsageStore(UsageStore):
    """Replicas add to the same rows, so that a row is the sum of them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert = postgresql.insert if database.is_postgres else sqlite.insert

    async def add(self, tenant_id: str, counts: Iterable[Usage]) -> None:
        # In one order everywhere, or two replicas could wait for each other's rows.
        rows = sorted((_row(tenant_id, usage) for usage in counts), key=lambda row: [row[name] for name in _KEY])
        async with self._database.transaction(tenant_id) as session:
            for start in range(0, len(rows), _ROWS):
                statement = self._insert(_TABLE).values(rows[start : start + _ROWS])
                added = {name: _TABLE.c[name] + statement.excluded[name] for name in ("calls", "cost_micros")}
                await session.execute(statement.on_conflict_do_update(index_elements=_KEY, set_=added))

    async def since(self, tenant_id: str, first: date, name: str) -> list[Usage]:
        query = select(_TABLE).where(_TABLE.c.tenant_id == tenant_id, _TABLE.c.day >= first)
        if name:
            query = query.where(_TABLE.c.tool_name == name)
        async with self._database.transaction(tenant_id, read_only=True) as session:
            return [_usage(row) for row in (await session.execute(query)).mappings()]

    async def purge(self, tenant_id: str, before: date) -> None:
        old = (_TABLE.c.tenant_id == tenant_id, _TABLE.c.day < before)
        async with self._database.transaction(tenant_id) as session:
            await session.execute(delete(_TABLE).where(*old))


def _row(tenant_id: str, usage: Usage) -> dict[str, Any]:
    key = usage.key
    return {
        "tenant_id": tenant_id,
        "day": key.day,
        "tool_name": key.tool_name,
        "version": key.version,
        "schema_hash": key.schema_hash,
        "status": key.status.value,
        "bucket": key.bucket,
        "argument": key.argument,
        "calls": usage.calls,
        "cost_micros": usage.cost_micros,
    }


def _usage(row: Any) -> Usage:
    key = UsageKey(
        row["tool_name"],
        row["version"],
        row["schema_hash"],
        row["day"],
        ExecutionStatus(row["status"]),
        row["bucket"],
        row["argument"],
    )
    return Usage(key, row["calls"], row["cost_micros"])
