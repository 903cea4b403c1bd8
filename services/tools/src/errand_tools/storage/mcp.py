"""MCP servers in the database."""

import json
from dataclasses import asdict

from errand_common.db import Database
from errand_common.errors import AlreadyExists, Conflict
from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError

from errand_tools.domain.mcp import McpServer, McpServerStore
from errand_tools.domain.tools import SideEffect, ToolPolicy
from errand_tools.storage.models import McpServerRow
from errand_tools.storage.tool_rows import auth_of


class SqlMcpServerStore(McpServerStore):
    """Every query names its tenant; on Postgres row-level security does so again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, tenant_id: str, server: McpServer, *, most: int) -> None:
        count = select(func.count()).where(McpServerRow.tenant_id == tenant_id)
        try:
            async with self._database.transaction(tenant_id) as session:
                if (await session.scalar(count) or 0) >= most:
                    raise Conflict(f"A tenant can have {most} MCP servers; delete one first.", resource="mcp server")
                session.add(_to_row(tenant_id, server))
        except IntegrityError:
            raise AlreadyExists("mcp server", server.name) from None

    async def get(self, tenant_id: str, name: str) -> McpServer | None:
        async with self._database.transaction(tenant_id, read_only=True) as session:
            row = await session.get(McpServerRow, (tenant_id, name))
            return _from_row(row) if row else None

    async def list(self, tenant_id: str) -> list[McpServer]:
        query = select(McpServerRow).where(McpServerRow.tenant_id == tenant_id).order_by(McpServerRow.name)
        async with self._database.transaction(tenant_id, read_only=True) as session:
            return [_from_row(row) for row in await session.scalars(query)]

    async def delete(self, tenant_id: str, name: str) -> bool:
        same = (McpServerRow.tenant_id == tenant_id, McpServerRow.name == name)
        async with self._database.transaction(tenant_id) as session:
            return await session.scalar(delete(McpServerRow).where(*same).returning(McpServerRow.name)) is not None


def _to_row(tenant_id: str, server: McpServer) -> McpServerRow:
    return McpServerRow(
        tenant_id=tenant_id,
        name=server.name,
        url=server.url,
        stdio=server.stdio,
        auth_json=json.dumps(asdict(server.auth)) if server.auth else "",
        side_effect=server.side_effect.value,
        policy=server.policy.value,
        timeout_ms=server.timeout_ms,
    )


def _from_row(row: McpServerRow) -> McpServer:
    return McpServer(
        row.name,
        row.url,
        row.stdio,
        auth_of(json.loads(row.auth_json)) if row.auth_json else None,
        SideEffect(row.side_effect),
        ToolPolicy(row.policy),
        row.timeout_ms,
    )
