"""The ports of storage, kept in memory."""

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from dataclasses import replace as with_
from datetime import UTC, date, datetime

from errand_common.errors import AlreadyExists, Conflict, NotFound

from errand_tools.domain.effects import (
    Dispatch,
    Effect,
    EffectFilter,
    EffectState,
    parse_cursor,
)
from errand_tools.domain.mcp import McpServer, McpServerStore
from errand_tools.domain.ports import MAX_VERSIONS, EffectStore, Page, ToolFilter, ToolStore
from errand_tools.domain.secrets import SealedSecret, Secret, SecretStore
from errand_tools.domain.tools import Outcome, Tool, next_version
from errand_tools.domain.usage import Usage, UsageKey, UsageStore


class InMemoryToolStore(ToolStore):
    """Tools of all tenants in one process."""

    def __init__(self) -> None:
        self._tools: dict[tuple[str, str], Tool] = {}
        self._disabled: dict[str, set[str]] = {}
        self._versions: dict[tuple[str, str], list[Tool]] = {}
        self._artifacts: dict[tuple[str, str], bytes] = {}

    async def add(self, tenant_id: str, tool: Tool, *, most: int, artifact: bytes = b"") -> Tool:
        if (tenant_id, tool.name) in self._tools:
            raise AlreadyExists("tool", tool.name)
        if sum(owner == tenant_id for owner, _ in self._tools) >= most:
            raise Conflict(f"A tenant can have {most} tools; delete one first.", resource="tool")
        return self._write(tenant_id, tool, artifact)

    async def update(self, tenant_id: str, tool: Tool, *, expected_version: int, artifact: bytes = b"") -> Tool:
        known = self._tools.get((tenant_id, tool.name))
        if known is None:
            raise NotFound("tool", tool.name)
        if expected_version not in (0, known.version):
            raise Conflict(
                f"the tool has version {known.version} by now; look at it again", resource="tool", id=tool.name
            )
        return self._write(tenant_id, tool, artifact)

    def _write(self, tenant_id: str, tool: Tool, artifact: bytes = b"") -> Tool:
        known = self._tools.get((tenant_id, tool.name))
        stored = next_version(tool, known, datetime.now(UTC))
        self._tools[tenant_id, tool.name] = stored
        earlier = self._versions.setdefault((tenant_id, tool.name), [])
        if known is None or known.version != stored.version:
            earlier.insert(0, with_(stored, offer=None))
            del earlier[MAX_VERSIONS:]
        if artifact:
            self._artifacts[tenant_id, hashlib.sha256(artifact).hexdigest()] = artifact
        return stored

    async def put_all(
        self, tenant_id: str, tools: Sequence[Tool], *, most: int, replace: bool, dry_run: bool
    ) -> frozenset[str]:
        known = {name: tool for (owner, name), tool in self._tools.items() if owner == tenant_id}
        taken = frozenset() if replace else frozenset(tool.name for tool in tools) & known.keys()
        if len(known.keys() | {tool.name for tool in tools}) > most:
            raise Conflict(f"A tenant can have {most} tools; delete some first.", resource="tool")
        for tool in tools:
            if tool.name not in taken and not dry_run:
                self._write(tenant_id, tool)
        return taken

    async def get(self, tenant_id: str, name: str) -> Tool | None:
        return self._tools.get((tenant_id, name))

    async def artifact(self, tenant_id: str, sha256: str) -> bytes | None:
        return self._artifacts.get((tenant_id, sha256))

    async def versions(self, tenant_id: str, name: str) -> list[Tool]:
        return list(self._versions.get((tenant_id, name), ()))

    async def list(self, tenant_id: str, page: Page, only: ToolFilter) -> list[Tool]:
        tools = [
            tool
            for (owner, name), tool in sorted(self._tools.items())
            if owner == tenant_id and name > page.after and only.takes(tool)
        ]
        return tools[: page.size]

    async def delete(self, tenant_id: str, name: str) -> bool:
        self._versions.pop((tenant_id, name), None)
        found = self._tools.pop((tenant_id, name), None) is not None
        named = {tool.artifact for tool in (*self._tools.values(), *itertools.chain(*self._versions.values()))}
        self._artifacts = {key: kept for key, kept in self._artifacts.items() if key[1] in named}
        return found

    async def set_enabled(self, tenant_id: str, name: str, *, enabled: bool) -> bool:
        tool = self._tools.get((tenant_id, name))
        if tool is None:
            return False
        self._tools[tenant_id, name] = replace(tool, enabled=enabled)
        return True

    async def disabled_builtins(self, tenant_id: str) -> frozenset[str]:
        return frozenset(self._disabled.get(tenant_id, ()))

    async def set_builtin_enabled(self, tenant_id: str, name: str, *, enabled: bool) -> None:
        disabled = self._disabled.setdefault(tenant_id, set())
        if enabled:
            disabled.discard(name)
        else:
            disabled.add(name)


class InMemoryEffectStore(EffectStore):
    """A ledger that is gone with its process, and so its only writer."""

    def __init__(self, *, exclusive: bool = True) -> None:
        self._exclusive = exclusive
        self._effects: dict[tuple[str, str], Effect] = {}

    @property
    def exclusive(self) -> bool:
        return self._exclusive

    async def begin(self, tenant_id: str, dispatch: Dispatch, now: datetime) -> Effect | None:
        key = (tenant_id, dispatch.effect_id)
        if key in self._effects:
            return self._effects[key]
        self._effects[key] = Effect(
            id=dispatch.effect_id,
            position=dispatch.position,
            tool_name=dispatch.tool_name,
            arguments_hash=dispatch.arguments_hash,
            side_effect=dispatch.side_effect,
            state=EffectState.DISPATCHED,
            owner=dispatch.owner,
            attempt=1,
            lease_until=dispatch.lease_until,
            created_at=now,
        )
        return None

    async def take_over(
        self, tenant_id: str, effect: Effect, *, owner: str, now: datetime, lease_until: datetime
    ) -> bool:
        stored = self._effects.get((tenant_id, effect.id))
        if stored is None or stored.attempt != effect.attempt or stored.state is EffectState.COMPLETED:
            return False
        self._effects[tenant_id, effect.id] = replace(
            stored,
            state=EffectState.DISPATCHED,
            owner=owner,
            attempt=stored.attempt + 1,
            lease_until=lease_until,
        )
        return True

    async def complete(self, tenant_id: str, effect_id: str, outcome: Outcome, *, owner: str, now: datetime) -> bool:
        return self._end(tenant_id, effect_id, owner, EffectState.COMPLETED, outcome=outcome, completed_at=now)

    async def leave_unsettled(self, tenant_id: str, effect_id: str, *, owner: str, now: datetime) -> bool:
        return self._end(tenant_id, effect_id, owner, EffectState.UNSETTLED)

    def _end(
        self,
        tenant_id: str,
        effect_id: str,
        owner: str,
        state: EffectState,
        *,
        outcome: Outcome | None = None,
        completed_at: datetime | None = None,
    ) -> bool:
        stored = self._effects.get((tenant_id, effect_id))
        if stored is None or stored.owner != owner or stored.state is not EffectState.DISPATCHED:
            return False
        self._effects[tenant_id, effect_id] = replace(stored, state=state, outcome=outcome, completed_at=completed_at)
        return True

    async def settle(self, tenant_id: str, effect_id: str, outcome: Outcome, now: datetime) -> Effect | None:
        stored = self._effects.get((tenant_id, effect_id))
        if stored is None or stored.state is not EffectState.UNSETTLED:
            return None
        settled = replace(stored, state=EffectState.COMPLETED, outcome=outcome, completed_at=now)
        self._effects[tenant_id, effect_id] = settled
        return settled

    async def get(self, tenant_id: str, effect_id: str) -> Effect | None:
        return self._effects.get((tenant_id, effect_id))

    async def list(self, tenant_id: str, page: Page, only: EffectFilter) -> list[Effect]:
        matching = [
            effect
            for (owner, _), effect in self._effects.items()
            if owner == tenant_id
            and (not only.run_id or effect.position.run_id == only.run_id)
            and (only.state is None or effect.state is only.state)
        ]
        matching.sort(key=lambda effect: (effect.created_at, effect.id), reverse=True)
        return [effect for effect in matching if _follows(effect, page.after)][: page.size]

    async def purge(self, tenant_id: str, *, completed_before: datetime, most: int) -> int:
        old = [
            key
            for key, effect in self._effects.items()
            if key[0] == tenant_id and effect.completed_at is not None and effect.completed_at < completed_before
        ][:most]
        for key in old:
            del self._effects[key]
        return len(old)


def _follows(effect: Effect, cursor: str) -> bool:
    if not cursor:
        return True
    return (effect.created_at, effect.id) < parse_cursor(cursor)


class InMemorySecretStore(SecretStore):
    """Sealed secrets of all tenants in one process."""

    def __init__(self) -> None:
        self._secrets: dict[tuple[str, str], SealedSecret] = {}

    async def put(self, tenant_id: str, secret: SealedSecret, *, most: int) -> None:
        name = secret.secret.name
        if sum(owner == tenant_id and known != name for owner, known in self._secrets) >= most:
            raise Conflict(f"A tenant can have {most} secrets; delete one first.", resource="secret")
        self._secrets[tenant_id, name] = secret

    async def get(self, tenant_id: str, name: str) -> SealedSecret | None:
        return self._secrets.get((tenant_id, name))

    async def list(self, tenant_id: str) -> list[Secret]:
        return [sealed.secret for (owner, _), sealed in sorted(self._secrets.items()) if owner == tenant_id]

    async def delete(self, tenant_id: str, name: str) -> bool:
        return self._secrets.pop((tenant_id, name), None) is not None


class InMemoryMcpServerStore(McpServerStore):
    """MCP servers of all tenants in one process."""

    def __init__(self) -> None:
        self._servers: dict[tuple[str, str], McpServer] = {}

    async def add(self, tenant_id: str, server: McpServer, *, most: int) -> None:
        if (tenant_id, server.name) in self._servers:
            raise AlreadyExists("mcp server", server.name)
        if sum(owner == tenant_id for owner, _ in self._servers) >= most:
            raise Conflict(f"A tenant can have {most} MCP servers; delete one first.", resource="mcp server")
        self._servers[tenant_id, server.name] = server

    async def get(self, tenant_id: str, name: str) -> McpServer | None:
        return self._servers.get((tenant_id, name))

    async def list(self, tenant_id: str) -> list[McpServer]:
        return [server for (owner, _), server in sorted(self._servers.items()) if owner == tenant_id]

    async def delete(self, tenant_id: str, name: str) -> bool:
        return self._servers.pop((tenant_id, name), None) is not None


class InMemoryUsageStore(UsageStore):
    """Counts of all tenants in one process."""

    def __init__(self) -> None:
        self._calls: defaultdict[str, Counter[UsageKey]] = defaultdict(Counter)
        self._costs: defaultdict[str, Counter[UsageKey]] = defaultdict(Counter)

    async def add(self, tenant_id: str, counts: Iterable[Usage]) -> None:
        for usage in counts:
            self._calls[tenant_id][usage.key] += usage.calls
            self._costs[tenant_id][usage.key] += usage.cost_micros

    async def since(self, tenant_id: str, first: date, name: str) -> list[Usage]:
        return [
            Usage(key, calls, self._costs[tenant_id][key])
            for key, calls in self._calls[tenant_id].items()
            if key.day >= first and name in ("", key.tool_name)
        ]

    async def purge(self, tenant_id: str, before: date) -> None:
        for key in [key for key in self._calls[tenant_id] if key.day < before]:
            del self._calls[tenant_id][key]
            self._costs[tenant_id].pop(key, None)
