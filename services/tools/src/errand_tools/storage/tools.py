"""Registered tools in the database."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, cast

from errand_common.db import Database
from errand_common.errors import AlreadyExists, Conflict, NotFound
from sqlalchemy import Table, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from errand_tools.domain.ports import MAX_VERSIONS, Page, ToolFilter, ToolStore
from errand_tools.domain.tools import Tool, next_version
from errand_tools.storage.models import DisabledBuiltinRow, ToolArtifactRow, ToolRow, ToolVersionRow
from errand_tools.storage.tool_rows import from_columns, to_columns

_TABLE = cast("Table", ToolRow.__table__)
_VERSIONS = cast("Table", ToolVersionRow.__table__)
_ROWS = select(_TABLE)


class SqlToolStore(ToolStore):
    """Every query names its tenant; on Postgres row-level security does so again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, tenant_id: str, tool: Tool, *, most: int, artifact: bytes = b"") -> Tool:
        try:
            async with self._database.transaction(tenant_id) as session:
                count = select(func.count()).where(ToolRow.tenant_id == tenant_id)
                if (await session.scalar(count) or 0) >= most:
                    raise Conflict(f"A tenant can have {most} tools; delete one first.", resource="tool")
                await _keep(session, tenant_id, artifact)
                [stored] = await _write(session, tenant_id, [tool])
                return stored
        except IntegrityError:
            raise AlreadyExists("tool", tool.name) from None

    async def update(self, tenant_id: str, tool: Tool, *, expected_version: int, artifact: bytes = b"") -> Tool:
        async with self._database.transaction(tenant_id) as session:
            known = (await _named(session, tenant_id, [tool.name], locked=True)).get(tool.name)
            if known is None:
                raise NotFound("tool", tool.name)
            if expected_version not in (0, known.version):
                raise Conflict(
                    f"the tool has version {known.version} by now; look at it again", resource="tool", id=tool.name
                )
            await _keep(session, tenant_id, artifact)
            [stored] = await _write(session, tenant_id, [tool], {tool.name: known})
            await _forget_artifacts(session, tenant_id)
            return stored

    async def put_all(
        self, tenant_id: str, tools: Sequence[Tool], *, most: int, replace: bool, dry_run: bool
    ) -> frozenset[str]:
        rows = select(ToolRow.name).where(ToolRow.tenant_id == tenant_id)
        async with self._database.transaction(tenant_id) as session:
            known = frozenset(await session.scalars(rows))
            names = frozenset(tool.name for tool in tools)
            taken = frozenset() if replace else names & known
            if len(known | names) > most:
                raise Conflict(f"A tenant can have {most} tools; delete some first.", resource="tool")
            if not dry_run:
                before = await _named(session, tenant_id, names & known, locked=True) if replace else {}
                await _write(session, tenant_id, [tool for tool in tools if tool.name not in taken], before)
        return taken

    async def get(self, tenant_id: str, name: str) -> Tool | None:
        async with self._database.transaction(tenant_id, read_only=True) as session:
            return (await _named(session, tenant_id, [name])).get(name)

    async def artifact(self, tenant_id: str, sha256: str) -> bytes | None:
        query = select(ToolArtifactRow.content).where(
            ToolArtifactRow.tenant_id == tenant_id, ToolArtifactRow.sha256 == sha256
        )
        async with self._database.transaction(tenant_id, read_only=True) as session:
            return await session.scalar(query)

    async def versions(self, tenant_id: str, name: str) -> list[Tool]:
        query = (
            select(ToolVersionRow.tool_json)
            .where(ToolVersionRow.tenant_id == tenant_id, ToolVersionRow.name == name)
            .order_by(ToolVersionRow.version.desc())
            .limit(MAX_VERSIONS)
        )
        async with self._database.transaction(tenant_id, read_only=True) as session:
            return [from_columns(json.loads(text)) for text in await session.scalars(query)]

    async def list(self, tenant_id: str, page: Page, only: ToolFilter) -> list[Tool]:
        query = (
            _ROWS.where(ToolRow.tenant_id == tenant_id, ToolRow.name > page.after)
            .order_by(ToolRow.name)
            .limit(page.size)
        )
        if only.enabled_only:
            query = query.where(ToolRow.enabled, ToolRow.offer_json == "")
        if only.kind is not None:
            query = query.where(ToolRow.kind == only.kind.value)
        if only.mcp_server:
            query = query.where(ToolRow.kind == "mcp", ToolRow.name.startswith(f"{only.mcp_server}.", autoescape=True))
        for word in only.words:
            text = func.lower(ToolRow.name + " " + ToolRow.description)
            query = query.where(text.contains(word, autoescape=True))
        async with self._database.transaction(tenant_id, read_only=True) as session:
            return [from_columns(row) for row in (await session.execute(query)).mappings()]

    async def delete(self, tenant_id: str, name: str) -> bool:
        async with self._database.transaction(tenant_id) as session:
            same = (ToolRow.tenant_id == tenant_id, ToolRow.name == name)
            found = await session.scalar(delete(ToolRow).where(*same).returning(ToolRow.name))
            earlier = (ToolVersionRow.tenant_id == tenant_id, ToolVersionRow.name == name)
            await session.execute(delete(ToolVersionRow).where(*earlier))
            await _forget_artifacts(session, tenant_id)
            return found is not None

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
        async with self._database.transaction(tenant_id, read_only=True) as session:
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


async def _named(
    session: AsyncSession, tenant_id: str, names: Iterable[str], *, locked: bool = False
) -> dict[str, Tool]:
    query = _ROWS.where(ToolRow.tenant_id == tenant_id, ToolRow.name.in_(list(names)))
    if locked:
        query = query.with_for_update()
    rows = (await session.execute(query)).mappings()
    return {row["name"]: from_columns(row) for row in rows}


async def _write(
    session: AsyncSession, tenant_id: str, tools: Sequence[Tool], before: Mapping[str, Tool] = MappingProxyType({})
) -> list[Tool]:
    """Writes the tools over those of before, and each new version to the versions."""
    now = datetime.now(UTC)
    stored = [next_version(tool, before.get(tool.name), now) for tool in tools]
    columns = [_columns(tenant_id, tool) for tool in stored]
    names = [tool.name for tool in stored if tool.name in before]
    if names:
        await session.execute(delete(_TABLE).where(_TABLE.c.tenant_id == tenant_id, _TABLE.c.name.in_(names)))
    if columns:
        await session.execute(insert(_TABLE), columns)
    new = [tool for tool in stored if tool.name not in before or before[tool.name].version != tool.version]
    if new:
        earlier = await _unkept(session, tenant_id, [before[tool.name] for tool in new if tool.name in before])
        await session.execute(insert(_VERSIONS), [_version(tenant_id, tool) for tool in (*earlier, *new)])
        await _trim(session, tenant_id, new)
    return stored


async def _unkept(session: AsyncSession, tenant_id: str, tools: Sequence[Tool]) -> list[Tool]:
    """Those that are not among the versions: they are older than that table."""
    if not tools:
        return []
    query = select(_VERSIONS.c.name, _VERSIONS.c.version).where(
        _VERSIONS.c.tenant_id == tenant_id, _VERSIONS.c.name.in_([tool.name for tool in tools])
    )
    kept = {(row.name, row.version) for row in await session.execute(query)}
    return [tool for tool in tools if (tool.name, tool.version) not in kept]


def _columns(tenant_id: str, tool: Tool) -> dict[str, Any]:
    columns = to_columns(tool)
    return {**columns, "tenant_id": tenant_id, "created_at": datetime.fromisoformat(columns["created_at"])}


def _version(tenant_id: str, tool: Tool) -> dict[str, Any]:
    columns = to_columns(replace(tool, offer=None))
    return {
        "tenant_id": tenant_id,
        "name": tool.name,
        "version": tool.version,
        "tool_json": json.dumps(columns),
        "artifact": tool.artifact,
    }


async def _trim(session: AsyncSession, tenant_id: str, tools: Sequence[Tool]) -> None:
    for tool in tools:
        if tool.version > MAX_VERSIONS:
            old = (_VERSIONS.c.tenant_id == tenant_id, _VERSIONS.c.name == tool.name)
            statement = delete(_VERSIONS).where(*old, _VERSIONS.c.version <= tool.version - MAX_VERSIONS)
            await session.execute(statement)


async def _keep(session: AsyncSession, tenant_id: str, artifact: bytes) -> None:
    if not artifact:
        return
    sha256 = hashlib.sha256(artifact).hexdigest()
    if await session.get(ToolArtifactRow, (tenant_id, sha256)) is None:
        now = datetime.now(UTC)
        session.add(ToolArtifactRow(tenant_id=tenant_id, sha256=sha256, content=artifact, created_at=now))
        await session.flush()


async def _forget_artifacts(session: AsyncSession, tenant_id: str) -> None:
    """Removes what no tool and no version names any more."""
    named = select(ToolRow.artifact).where(ToolRow.tenant_id == tenant_id)
    earlier = select(ToolVersionRow.artifact).where(ToolVersionRow.tenant_id == tenant_id)
    await session.execute(
        delete(ToolArtifactRow).where(
            ToolArtifactRow.tenant_id == tenant_id,
            ToolArtifactRow.sha256.not_in(named),
            ToolArtifactRow.sha256.not_in(earlier),
        )
    )
