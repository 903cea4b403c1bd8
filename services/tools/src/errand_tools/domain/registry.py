"""A tenant's tools: the built-in ones and those it registered."""

import asyncio
import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from errand_common.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
)
from errand_common.principal import Principal

from errand_tools.domain.access import require_editor
from errand_tools.domain.lint import Rating, rate
from errand_tools.domain.ports import EVERY_TOOL, Page, ToolFilter, ToolStore
from errand_tools.domain.schema import check_arguments
from errand_tools.domain.secrets import SecretBook
from errand_tools.domain.templates import check_binding
from errand_tools.domain.tools import (
    DEFAULT_TIMEOUT_MS,
    SideEffect,
    Tool,
    ToolKind,
    schema_hash,
)

MAX_TOOLS = 1_000
_NAME = re.compile(r"^[A-Za-z0-9._-]{1,128}$")


@dataclass(frozen=True, slots=True)
class ToolPage:
    """A page of tools and the cursor of the next one, empty on the last."""

    tools: list[Tool]
    next_cursor: str


class ToolRegistry:
    """Registers, finds and switches tools.

    Lookups are cached for `cache_seconds`: that long another replica may still run a tool that was
    turned off here.
    """

    def __init__(
        self,
        store: ToolStore,
        builtins: Sequence[Tool],
        secrets: SecretBook,
        *,
        cache_seconds: float = 2.0,
        cache_entries: int = 8192,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._builtins = {tool.name: tool for tool in builtins}
        self._secrets = secrets
        self._cache = _Cache(cache_seconds, cache_entries, clock)
        self._pending: dict[tuple[str, str], asyncio.Future[Tool | None]] = {}

    async def register(self, principal: Principal, tool: Tool, artifact: bytes = b"") -> Tool:
        """Adds a tool, with the bytes it names.

        Raises InvalidArgument, AlreadyExists, PermissionDenied, and Conflict over 1,000 tools.
        """
        require_editor(principal)
        registered = await self._ready(principal.tenant_id, tool)
        stored = await self._store.add(principal.tenant_id, registered, most=MAX_TOOLS, artifact=artifact)
        self._cache.forget(principal.tenant_id, tool.name)
        return stored

    async def update(
        self, principal: Principal, tool: Tool, artifact: bytes = b"", *, expected_version: int = 0
    ) -> Tool:
        """Changes a registered tool; of an MCP server's tool only what its server does not say.

        Raises InvalidArgument, NotFound, PermissionDenied, Conflict when another version is in place.
        """
        require_editor(principal)
        known = await self.registered(principal.tenant_id, tool.name)
        ready = _ruled(known, tool) if known.mcp else await self._ready(principal.tenant_id, tool)
        stored = await self._store.update(
            principal.tenant_id, ready, expected_version=expected_version, artifact=artifact
        )
        self._cache.forget(principal.tenant_id, tool.name)
        return stored

    async def registered(self, tenant_id: str, name: str) -> Tool:
        """A tool that can be changed. Raises NotFound, InvalidArgument for a built-in one."""
        if name in self._builtins:
            raise InvalidArgument(
                f"'{name}' is built in and cannot be changed; turn it off instead", field="name", rule="builtin"
            )
        tool = await self._store.get(tenant_id, name)
        if tool is None:
            raise NotFound("tool", name)
        return tool

    async def versions(self, tenant_id: str, name: str) -> list[Tool]:
        """The tool as it was, the newest first. Raises NotFound."""
        if name in self._builtins:
            return [self._builtins[name]]
        return await self._store.versions(tenant_id, name) or [await self.get(tenant_id, name)]

    async def artifact(self, tenant_id: str, sha256: str) -> bytes | None:
        """The bytes that a tool names, or None."""
        return await self._store.artifact(tenant_id, sha256)

    async def _ready(self, tenant_id: str, tool: Tool) -> Tool:
        ready = self.checked(tool)
        await self._check_reconcile_tool(tenant_id, ready)
        await self.check_auth(tenant_id, ready, field=f"tool.{ready.kind}.auth")
        return ready

    async def register_all(
        self, principal: Principal, tools: Sequence[Tool], *, replace: bool, dry_run: bool = False
    ) -> frozenset[str]:
        """Adds checked tools at once; names that were taken, which `replace` takes over.

        Raises PermissionDenied, and Conflict over 1,000 tools: nothing is added then.
        """
        require_editor(principal)
        taken = await self._store.put_all(principal.tenant_id, tools, most=MAX_TOOLS, replace=replace, dry_run=dry_run)
        for tool in tools:
            self._cache.forget(principal.tenant_id, tool.name)
        return taken

    async def lint(self, tenant_id: str, name: str) -> Rating:
        """How well a small model can use a tool beside the tenant's others. Raises NotFound."""
        tool = await self.get(tenant_id, name)
        registered = await self._store.list(tenant_id, Page(MAX_TOOLS), ToolFilter(enabled_only=True))
        return rate(tool, [*self._builtins.values(), *registered])

    async def of_server(self, tenant_id: str, server: str) -> Sequence[Tool]:
        """The tools of an MCP server."""
        return await self._store.list(tenant_id, Page(MAX_TOOLS), ToolFilter(mcp_server=server))

    async def get(self, tenant_id: str, name: str) -> Tool:
        """A tool by name. Raises NotFound."""
        tool = await self.find(tenant_id, name)
        if tool is None:
            raise NotFound("tool", name)
        return tool

    async def find(self, tenant_id: str, name: str) -> Tool | None:
        """A tool by name, or None."""
        known, tool = self._cache.get(tenant_id, name)
        if known:
            return tool
        # Calls that miss at once share one query.
        pending = self._pending.get((tenant_id, name))
        if pending is None:
            pending = asyncio.ensure_future(self._refresh(tenant_id, name))
            self._pending[tenant_id, name] = pending
            pending.add_done_callback(lambda _: self._pending.pop((tenant_id, name), None))
        return await asyncio.shield(pending)

    async def list_page(self, tenant_id: str, page: Page, only: ToolFilter = EVERY_TOOL) -> ToolPage:
        """Built-in tools first, then the registered ones by name."""
        tools = await self._listed_builtins(tenant_id, page.after, only)
        if len(tools) <= page.size:
            after = page.after.removeprefix("t:") if page.after.startswith("t:") else ""
            room = Page(page.size - len(tools) + 1, after)
            tools += await self._store.list(tenant_id, room, only)
        shown = tools[: page.size]
        more = len(tools) > page.size
        return ToolPage(shown, _cursor(shown[-1]) if more and shown else "")

    async def set_enabled(self, principal: Principal, name: str, *, enabled: bool) -> Tool:
        """Turns a tool on or off for the tenant. Raises NotFound, PermissionDenied."""
        require_editor(principal)
        if name in self._builtins:
            await self._store.set_builtin_enabled(principal.tenant_id, name, enabled=enabled)
        elif not await self._store.set_enabled(principal.tenant_id, name, enabled=enabled):
            raise NotFound("tool", name)
        self._cache.forget(principal.tenant_id, name)
        return await self.get(principal.tenant_id, name)

    async def delete(self, principal: Principal, name: str) -> None:
        """Removes a registered tool. Raises NotFound, InvalidArgument for a built-in one."""
        require_editor(principal)
        if name in self._builtins:
            raise InvalidArgument(
                f"'{name}' is built in and cannot be removed; turn it off instead",
                field="name",
                rule="builtin",
            )
        if not await self._store.delete(principal.tenant_id, name):
            raise NotFound("tool", name)
        self._cache.forget(principal.tenant_id, name)

    async def _refresh(self, tenant_id: str, name: str) -> Tool | None:
        tool = await self._look_up(tenant_id, name)
        self._cache.put(tenant_id, name, tool)
        return tool

    async def _look_up(self, tenant_id: str, name: str) -> Tool | None:
        builtin = self._builtins.get(name)
        if builtin is None:
            return await self._store.get(tenant_id, name)
        disabled = await self._store.disabled_builtins(tenant_id)
        return replace(builtin, enabled=name not in disabled)

    async def _listed_builtins(self, tenant_id: str, after: str, only: ToolFilter) -> list[Tool]:
        if after.startswith("t:"):
            return []
        names = list(self._builtins)
        start = names.index(after[2:]) + 1 if after[2:] in self._builtins else 0
        disabled = await self._store.disabled_builtins(tenant_id)
        tools = [replace(self._builtins[name], enabled=name not in disabled) for name in names[start:]]
        return [tool for tool in tools if only.takes(tool)]

    def checked(self, tool: Tool) -> Tool:
        """The tool as it would be registered. Raises InvalidArgument, AlreadyExists for a built-in one's name."""
        self.check_name(tool.name)
        kind = _kind(tool)
        if tool.http is not None:
            check_binding(tool.http, tool.parameters)
        _check_side_effect(tool)
        _check_examples(tool)
        return replace(
            tool,
            kind=kind,
            enabled=True,
            timeout_ms=tool.timeout_ms or DEFAULT_TIMEOUT_MS,
            schema_hash=schema_hash(tool.description, tool.parameters),
        )

    def check_name(self, name: str) -> None:
        """Raises InvalidArgument for what is no name, AlreadyExists for a built-in tool's."""
        if not _NAME.match(name):
            raise InvalidArgument(
                "name must be 1 to 128 letters, digits, '.', '_' or '-'",
                field="tool.name",
                rule="pattern",
            )
        if name in self._builtins:
            raise AlreadyExists("tool", name)

    async def check_auth(self, tenant_id: str, tool: Tool, *, field: str) -> None:
        """Raises InvalidArgument when the tool names a secret that it cannot use."""
        if tool.http and tool.http.auth:
            await self._secrets.check(tenant_id, tool.http.auth, tool.http.url_template, field=field)
        if tool.grpc and tool.grpc.auth:
            await self._secrets.check(tenant_id, tool.grpc.auth, tool.grpc.url, field=field)

    async def _check_reconcile_tool(self, tenant_id: str, tool: Tool) -> None:
        if tool.side_effect is not SideEffect.RECONCILE:
            return
        query = await self._look_up(tenant_id, tool.reconcile_tool)
        if query is None or query.side_effect is not SideEffect.NONE:
            raise InvalidArgument(
                "reconcile_tool must name a registered tool with no side effect that tells whether"
                f" '{tool.name}' happened",
                field="tool.reconcile_tool",
                rule="reconcile_tool",
            )


def _cursor(tool: Tool) -> str:
    return f"{'b' if tool.kind is ToolKind.BUILTIN else 't'}:{tool.name}"


def _kind(tool: Tool) -> ToolKind:
    bindings = {
        ToolKind.HTTP: tool.http,
        ToolKind.GRPC: tool.grpc,
        ToolKind.WASM: tool.wasm,
        ToolKind.PYTHON: tool.python,
    }
    given = [kind for kind, binding in bindings.items() if binding is not None]
    if len(given) != 1:
        raise InvalidArgument(
            "give exactly one of http, grpc, wasm and python: it says how the tool is called",
            field="tool.http",
            rule="required",
        )
    return given[0]


def _ruled(known: Tool, tool: Tool) -> Tool:
    """A server's tool with new rules; its words and arguments are the server's."""
    if tool.side_effect not in (SideEffect.NONE, SideEffect.ASK):
        raise InvalidArgument("side_effect must be NONE or ASK for a tool of an MCP server", field="tool.side_effect")
    return replace(
        known,
        timeout_ms=tool.timeout_ms or DEFAULT_TIMEOUT_MS,
        side_effect=tool.side_effect,
        policy=tool.policy,
        limits=tool.limits,
        cost_micros=tool.cost_micros,
        role_policies=tool.role_policies,
        retry=tool.retry,
    )


def _check_examples(tool: Tool) -> None:
    for number, text in enumerate(tool.examples):
        field = f"tool.examples_json[{number}]"
        try:
            arguments = json.loads(text)
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            raise InvalidArgument("an example is the arguments of a call, a JSON object", field=field, rule="json")
        _, problem = check_arguments(tool.parameters, arguments)
        if problem:
            raise InvalidArgument(problem.sentence, field=field, rule="schema")


# What surely changes nothing outside has nothing that could be sent twice.
_PURE = frozenset({ToolKind.WASM, ToolKind.PYTHON})
# They send no idempotency key.
_KEYLESS = frozenset({ToolKind.GRPC})


def _check_side_effect(tool: Tool) -> None:
    kind = _kind(tool)
    if kind in _PURE and tool.side_effect is not SideEffect.NONE:
        raise InvalidArgument(
            f"a {kind} tool reaches nothing outside: its side effect is `none`", field="tool.side_effect", rule="pure"
        )
    if kind in _KEYLESS and tool.side_effect is SideEffect.IDEMPOTENT:
        raise InvalidArgument(
            f"a {kind} tool sends no idempotency key; use `none`, `reconcile` or `ask`",
            field="tool.side_effect",
            rule="keyless",
        )
    if tool.side_effect is SideEffect.RECONCILE and not tool.reconcile_tool:
        raise InvalidArgument(
            "reconcile_tool is required for the side effect RECONCILE",
            field="tool.reconcile_tool",
            rule="required",
        )
    if tool.side_effect is not SideEffect.RECONCILE and tool.reconcile_tool:
        raise InvalidArgument(
            "reconcile_tool is only for the side effect RECONCILE; leave it empty",
            field="tool.reconcile_tool",
            rule="unused",
        )
    if tool.http and tool.http.method == "GET" and tool.side_effect is not SideEffect.NONE:
        host = urlsplit(tool.http.url_template).hostname or ""
        raise InvalidArgument(
            f"a GET of {host} must not change anything; use another method or side effect NONE",
            field="tool.side_effect",
            rule="safe_method",
        )


class _Cache:
    """Tools by tenant and name, and names that are not there, for a short while."""

    def __init__(self, seconds: float, entries: int, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._entries = entries
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], tuple[float, Tool | None]] = OrderedDict()

    def get(self, tenant_id: str, name: str) -> tuple[bool, Tool | None]:
        kept = self._kept.get((tenant_id, name))
        if kept is None or kept[0] < self._clock():
            return False, None
        return True, kept[1]

    def put(self, tenant_id: str, name: str, tool: Tool | None) -> None:
        self._kept[tenant_id, name] = (self._clock() + self._seconds, tool)
        self._kept.move_to_end((tenant_id, name))
        if len(self._kept) > self._entries:
            self._kept.popitem(last=False)

    def forget(self, tenant_id: str, name: str) -> None:
        self._kept.pop((tenant_id, name), None)
