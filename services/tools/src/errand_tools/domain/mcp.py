"""MCP servers of a tenant, and their tools, which run only as they were approved."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import urlsplit

from errand_common.errors import AlreadyExists, Conflict, ErrandError, InvalidArgument, NotFound, Unavailable
from errand_common.principal import Principal

from errand_tools.domain.access import require_editor
from errand_tools.domain.openapi import Skipped
from errand_tools.domain.registry import ToolRegistry
from errand_tools.domain.sanitise import clean_text
from errand_tools.domain.schema import parse_parameters
from errand_tools.domain.secrets import NO_CREDENTIALS, SecretBook
from errand_tools.domain.tools import (
    CallContext,
    HttpAuth,
    JsonObject,
    McpBinding,
    Offer,
    SideEffect,
    Tool,
    ToolDenied,
    ToolError,
    ToolKind,
    ToolPolicy,
    canonical_json,
    schema_hash,
)

MAX_SERVERS = 50
_MAX_DESCRIPTION = 1_000
_CONNECT_SECONDS = 15.0
_FIELD = "server"


@dataclass(frozen=True, slots=True)
class McpServer:
    """An MCP server: a URL, or the name of a stdio server that the operator offers."""

    name: str
    url: str = ""
    stdio: str = ""
    auth: HttpAuth | None = None
    side_effect: SideEffect = SideEffect.ASK
    policy: ToolPolicy = ToolPolicy.ASK
    timeout_ms: int = 10_000


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a server is and how to speak with it; connections are shared by equal ones alone."""

    tenant_id: str
    server: McpServer
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RemoteTool:
    """A tool as a server lists it."""

    name: str
    description: str
    parameters: Any


class McpConnections(Protocol):
    """Speaks MCP."""

    def stdio_servers(self) -> frozenset[str]:
        """Names of the stdio servers that the operator offers."""

    async def tools(self, remote: Remote, timeout_seconds: float) -> Sequence[RemoteTool]:
        """What the server lists now. Raises ToolError."""

    async def call(
        self, remote: Remote, tool: str, pinned_hash: str, arguments: JsonObject, context: CallContext
    ) -> Any:
        """Calls a tool that the server lists with that hash (see `offer_of`).

        Raises ToolDenied when it lists another one, ToolError, and OutcomeUnknown when the answer was lost.
        """


class McpServerStore(ABC):
    """Keeps a tenant's MCP servers."""

    @abstractmethod
    async def add(self, tenant_id: str, server: McpServer, *, most: int) -> None:
        """Raises AlreadyExists, Conflict when the tenant has `most`."""

    @abstractmethod
    async def get(self, tenant_id: str, name: str) -> McpServer | None:
        """The server, or None."""

    @abstractmethod
    async def list(self, tenant_id: str) -> list[McpServer]:
        """All of the tenant, by name."""

    @abstractmethod
    async def delete(self, tenant_id: str, name: str) -> bool:
        """Whether there was one."""


@dataclass(frozen=True, slots=True)
class Synced:
    """What a server's list gave."""

    held: list[Tool]
    unchanged: list[str]
    removed: list[str]
    skipped: list[Skipped]


def offer_of(tool: RemoteTool) -> Offer:
    """What the server offers, cleaned. Raises InvalidArgument for a schema that no tool may have."""
    description = clean_text(tool.description).strip()[:_MAX_DESCRIPTION] or tool.name
    schema = dict(tool.parameters) if isinstance(tool.parameters, Mapping) else {}
    # Neither is a rule for values, and servers put them in often.
    for keyword in ("$schema", "title"):
        schema.pop(keyword, None)
    parameters = parse_parameters(clean_text(canonical_json(schema)))
    return Offer(description, parameters, schema_hash(description, parameters))


class McpBook:
    """Registers servers and keeps their tools pinned."""

    def __init__(
        self, servers: McpServerStore, registry: ToolRegistry, secrets: SecretBook, connections: McpConnections
    ) -> None:
        self._servers = servers
        self._registry = registry
        self._secrets = secrets
        self._connections = connections

    async def register(self, principal: Principal, server: McpServer) -> tuple[list[Tool], list[Skipped]]:
        """Stores the server with the tools it lists now, which the principal approves by this.

        Raises PermissionDenied, InvalidArgument, AlreadyExists, Conflict, Unavailable when it does not answer.
        """
        require_editor(principal)
        tenant_id = principal.tenant_id
        await self._check(tenant_id, server)
        if await self._servers.get(tenant_id, server.name):
            raise AlreadyExists("mcp server", server.name)
        offers, skipped = await self._offers(tenant_id, server)
        tools = [_tool(server, name, offer) for name, offer in offers.items()]
        await self._servers.add(tenant_id, server, most=MAX_SERVERS)
        try:
            taken = await self._registry.register_all(principal, tools, replace=False)
        except ErrandError:
            await self._servers.delete(tenant_id, server.name)
            raise
        skipped += [Skipped(name, "A tool of this name is registered already.") for name in sorted(taken)]
        return [tool for tool in tools if tool.name not in taken], skipped

    async def servers(self, principal: Principal) -> list[McpServer]:
        """The tenant's servers. Raises PermissionDenied."""
        require_editor(principal)
        return await self._servers.list(principal.tenant_id)

    async def delete(self, principal: Principal, name: str) -> None:
        """Removes a server and its tools. Raises PermissionDenied, NotFound."""
        require_editor(principal)
        if not await self._servers.delete(principal.tenant_id, name):
            raise NotFound("mcp server", name)
        for tool in await self._registry.of_server(principal.tenant_id, name):
            await self._registry.delete(principal, tool.name)

    async def sync(self, principal: Principal, name: str) -> Synced:
        """Reads the server's list again: what is new or changed is held, what is gone is removed.

        Raises PermissionDenied, NotFound, Unavailable.
        """
        require_editor(principal)
        server = await self._server(principal.tenant_id, name)
        offers, skipped = await self._offers(principal.tenant_id, server)
        known = {tool.mcp.tool: tool for tool in await self._registry.of_server(principal.tenant_id, name) if tool.mcp}
        listed = {offer_name.removeprefix(f"{name}."): offer for offer_name, offer in offers.items()}
        same = [tool for short, tool in known.items() if short in listed and listed[short].hash == tool.schema_hash]
        gone = [tool for short, tool in known.items() if short not in listed]
        held = [_held(server, short, offer, known.get(short)) for short, offer in listed.items()]
        held = [tool for tool in held if tool.offer is not None]
        # A tool that went back to what was approved needs no approval any more.
        freed = [replace(tool, offer=None) for tool in same if tool.offer is not None]
        await self._registry.register_all(principal, [*held, *freed], replace=True)
        for tool in gone:
            await self._registry.delete(principal, tool.name)
        return Synced(held, [tool.name for tool in same], [tool.name for tool in gone], skipped)

    async def approve(self, principal: Principal, name: str, hash_: str) -> Tool:
        """Takes over the offer that `hash_` names.

        Raises PermissionDenied, NotFound, Conflict when nothing is offered or something else is by now.
        """
        require_editor(principal)
        tool = await self._registry.get(principal.tenant_id, name)
        if tool.offer is None or tool.offer.hash != hash_:
            raise Conflict(
                "the tool's server offers nothing of this hash; look at the tool again", resource="tool", id=name
            )
        offer = tool.offer
        approved = replace(
            tool, description=offer.description, parameters=offer.parameters, schema_hash=offer.hash, offer=None
        )
        await self._registry.register_all(principal, [approved], replace=True)
        return await self._registry.get(principal.tenant_id, name)

    async def run(self, tenant_id: str, tool: Tool, arguments: JsonObject, context: CallContext) -> Any:
        """Calls the tool at its server. Raises ToolError, OutcomeUnknown."""
        binding = tool.mcp
        server = await self._servers.get(tenant_id, binding.server) if binding else None
        if binding is None or server is None:
            raise ToolDenied("The tool's server was removed.")
        used = await self._secrets.credentials(tenant_id, server.auth, server.url)
        remote = Remote(tenant_id, server, tuple(used.headers.items()))
        context = replace(context, tell=used.scrubbed(context.tell))
        with used.scrubbed_errors():
            return used.scrub(await self._connections.call(remote, binding.tool, tool.schema_hash, arguments, context))

    async def _server(self, tenant_id: str, name: str) -> McpServer:
        server = await self._servers.get(tenant_id, name)
        if server is None:
            raise NotFound("mcp server", name)
        return server

    async def _check(self, tenant_id: str, server: McpServer) -> None:
        if bool(server.url) == bool(server.stdio):
            raise InvalidArgument("give either url or stdio", field=f"{_FIELD}.url", rule="oneof")
        if server.side_effect not in (SideEffect.NONE, SideEffect.ASK):
            raise InvalidArgument(
                "side_effect must be NONE or ASK: MCP has no idempotency keys", field=f"{_FIELD}.side_effect"
            )
        if server.stdio and server.stdio not in self._connections.stdio_servers():
            raise InvalidArgument(
                f"the operator offers no stdio server named '{server.stdio}'", field=f"{_FIELD}.stdio", rule="offered"
            )
        if server.stdio and server.auth:
            raise InvalidArgument("auth is only for a url", field=f"{_FIELD}.auth", rule="unused")
        if server.url:
            _check_url(server.url)
        if server.auth:
            await self._secrets.check(tenant_id, server.auth, server.url, field=f"{_FIELD}.auth")

    async def _offers(self, tenant_id: str, server: McpServer) -> tuple[dict[str, Offer], list[Skipped]]:
        """The usable tools by our name, and why others are not."""
        used = NO_CREDENTIALS
        try:
            used = await self._secrets.credentials(tenant_id, server.auth, server.url)
            remote = Remote(tenant_id, server, tuple(used.headers.items()))
            listed = await self._connections.tools(remote, _CONNECT_SECONDS)
        except ToolError as error:
            message = used.scrub(clean_text(error.message))
            raise Unavailable("mcp server", f"The MCP server '{server.name}': {message}") from None
        offers: dict[str, Offer] = {}
        skipped: list[Skipped] = []
        for tool in listed:
            name = f"{server.name}.{tool.name}"
            try:
                self._registry.check_name(name)
                if name in offers:
                    raise AlreadyExists("tool", tool.name)
                offers[name] = offer_of(tool)
            except ErrandError as error:
                skipped.append(Skipped(clean_text(tool.name)[:128], clean_text(error.message)[:500]))
        return offers, skipped


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, credentials = parts.hostname, parts.username or parts.password
    except ValueError:
        parts, host, credentials = urlsplit(""), None, None
    if parts.scheme not in ("http", "https") or not host or credentials or parts.fragment:
        raise InvalidArgument(
            "url must be an absolute http or https URL without credentials; use auth for those",
            field=f"{_FIELD}.url",
            rule="url",
        )


def _tool(server: McpServer, name: str, offer: Offer) -> Tool:
    return Tool(
        name=name,
        description=offer.description,
        parameters=offer.parameters,
        timeout_ms=server.timeout_ms,
        side_effect=server.side_effect,
        policy=server.policy,
        kind=ToolKind.MCP,
        mcp=McpBinding(server.name, name.removeprefix(f"{server.name}.")),
        schema_hash=offer.hash,
    )


def _held(server: McpServer, short: str, offer: Offer, known: Tool | None) -> Tool:
    """The tool with the offer that waits; without one when it is what was approved."""
    if known is None:
        # Nothing of it was ever approved: an empty hash is what no server can offer.
        # Its own words wait too: nobody looked at them, and a model must not read them.
        unseen = Offer("Waits for approval.", {"type": "object", "properties": {}}, "")
        return replace(_tool(server, f"{server.name}.{short}", unseen), offer=offer)
    return replace(known, offer=None if known.schema_hash == offer.hash else offer)
