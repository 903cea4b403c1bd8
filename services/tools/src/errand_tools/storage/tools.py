"""Registered tools in the database."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import replace as with_
from datetime import UTC, datetime

from errand_common.db import Database
from errand_common.errors import AlreadyExists, Conflict
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError

from errand_tools.domain.ports import Page, ToolStore
from errand_tools.domain.tools import (
    AuthScheme,
    HttpAuth,
    HttpBinding,
    McpBinding,
    Offer,
    SideEffect,
    Tool,
    ToolKind,
    ToolPolicy,
)
from errand_tools.storage.models import DisabledBuiltinRow, ToolRow


class SqlToolStore(ToolStore):
    """Every query names its tenant; on Postgres row-level security does so again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, tenant_id: str, tool: Tool, *, most: int) -> None:
        try:
            async with self._database.transaction(tenant_id) as session:
                count = select(func.count()).where(ToolRow.tenant_id == tenant_id)
                if (await session.scalar(count) or 0) >= most:
                    raise Conflict(f"A tenant can have {most} tools; delete one first.", resource="tool")
                session.add(_to_row(tenant_id, tool))
        except IntegrityError:
            raise AlreadyExists("tool", tool.name) from None

    async def put_all(
        self, tenant_id: str, tools: Sequence[Tool], *, most: int, replace: bool, dry_run: bool
    ) -> frozenset[str]:
        rows = select(ToolRow.name, ToolRow.enabled).where(ToolRow.tenant_id == tenant_id)
        async with self._database.transaction(tenant_id) as session:
            known: dict[str, bool] = {row.name: row.enabled for row in await session.execute(rows)}
            taken = frozenset() if replace else frozenset(tool.name for tool in tools) & known.keys()
            if len(known.keys() | {tool.name for tool in tools}) > most:
                raise Conflict(f"A tenant can have {most} tools; delete some first.", resource="tool")
            new = [] if dry_run else [tool for tool in tools if tool.name not in taken]
            replaced = [tool.name for tool in new if tool.name in known]
            if replaced:
                same = (ToolRow.tenant_id == tenant_id, ToolRow.name.in_(replaced))
                await session.execute(delete(ToolRow).where(*same))
            session.add_all(_to_row(tenant_id, with_(tool, enabled=known.get(tool.name, tool.enabled))) for tool in new)
        return taken

    async def get(self, tenant_id: str, name: str) -> Tool | None:
        async with self._database.transaction(tenant_id) as session:
            row = await session.get(ToolRow, (tenant_id, name))
            return _from_row(row) if row else None

    async def list(self, tenant_id: str, page: Page, *, enabled_only: bool) -> list[Tool]:
        query = (
            select(ToolRow)
            .where(ToolRow.tenant_id == tenant_id, ToolRow.name > page.after)
            .order_by(ToolRow.name)
            .limit(page.size)
        )
        if enabled_only:
            query = query.where(ToolRow.enabled, ToolRow.offer_json == "")
        async with self._database.transaction(tenant_id) as session:
            return [_from_row(row) for row in await session.scalars(query)]

    async def delete(self, tenant_id: str, name: str) -> bool:
        statement = delete(ToolRow).where(ToolRow.tenant_id == tenant_id, ToolRow.name == name).returning(ToolRow.name)
        async with self._database.transaction(tenant_id) as session:
            return await session.scalar(statement) is not None

    async def set_enabled(self, tenant_id: str, name: str, *, enabled: bool) -> bool:
        statement = (
            update(ToolRow)
            .where(ToolRow.tenant_id == tenant_id, ToolRow.name == name)
            .values(enabled=enabled)
            .returning(ToolRow.name)
        )
        async with self._database.transaction(tenant_id) as session:
            return await session.scalar(statement) is not None

    async def disabled_builtins(self, tenant_id: str) -> frozenset[str]:
        query = select(DisabledBuiltinRow.name).where(DisabledBuiltinRow.tenant_id == tenant_id)
        async with self._database.transaction(tenant_id) as session:
            return frozenset(await session.scalars(query))

    async def set_builtin_enabled(self, tenant_id: str, name: str, *, enabled: bool) -> None:
        async with self._database.transaction(tenant_id) as session:
            if enabled:
                await session.execute(
                    delete(DisabledBuiltinRow).where(
                        DisabledBuiltinRow.tenant_id == tenant_id, DisabledBuiltinRow.name == name
                    )
                )
            else:
                await session.merge(DisabledBuiltinRow(tenant_id=tenant_id, name=name))


def _to_row(tenant_id: str, tool: Tool) -> ToolRow:
    return ToolRow(
        tenant_id=tenant_id,
        name=tool.name,
        description=tool.description,
        parameters_json=tool.parameters_json,
        timeout_ms=tool.timeout_ms,
        side_effect=tool.side_effect.value,
        policy=tool.policy.value,
        method=tool.http.method if tool.http else "",
        url_template=tool.http.url_template if tool.http else "",
        reconcile_tool=tool.reconcile_tool,
        enabled=tool.enabled,
        schema_hash=tool.schema_hash,
        created_at=datetime.now(UTC),
        kind=tool.kind.value,
        binding_json=_binding_json(tool),
        offer_json=json.dumps(asdict(tool.offer)) if tool.offer else "",
    )


def _binding_json(tool: Tool) -> str:
    """What the columns of the first version do not hold."""
    http = tool.http
    if http is None:
        return json.dumps(asdict(tool.mcp)) if tool.mcp else "{}"
    rest = {"query_arguments": http.query_arguments, "body_argument": http.body_argument}
    return json.dumps({**rest, "auth": asdict(http.auth) if http.auth else None})


def _http(row: ToolRow) -> HttpBinding:
    rest = json.loads(row.binding_json)
    auth = rest.get("auth")
    return HttpBinding(
        row.method,
        row.url_template,
        auth=HttpAuth(AuthScheme(auth["scheme"]), auth["secret"], auth["header"]) if auth else None,
        query_arguments=tuple(rest.get("query_arguments", ())),
        body_argument=rest.get("body_argument", ""),
    )


def _from_row(row: ToolRow) -> Tool:
    return Tool(
        name=row.name,
        description=row.description,
        parameters=json.loads(row.parameters_json),
        timeout_ms=row.timeout_ms,
        side_effect=SideEffect(row.side_effect),
        policy=ToolPolicy(row.policy),
        kind=ToolKind(row.kind),
        http=_http(row) if row.kind == ToolKind.HTTP else None,
        mcp=McpBinding(**json.loads(row.binding_json)) if row.kind == ToolKind.MCP else None,
        offer=Offer(**json.loads(row.offer_json)) if row.offer_json else None,
        enabled=row.enabled,
        reconcile_tool=row.reconcile_tool,
        schema_hash=row.schema_hash,
    )
