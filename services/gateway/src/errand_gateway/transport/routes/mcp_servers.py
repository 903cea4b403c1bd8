"""MCP servers whose tools the tenant uses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from errand_common.principal import Principal
from fastapi import Depends
from pydantic import ConfigDict, Field

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.tool_resources import (
    McpServer,
    RegisteredMcpServer,
    SideEffect,
    SyncedMcpServer,
    ToolPolicy,
)
from errand_gateway.transport.access import BODY_RESPONSES, CONFLICT, NOT_FOUND, Requires, guarded_router
from errand_gateway.transport.fields import Body, ResourceName, Text
from errand_gateway.transport.services import ServicesDep
from errand_gateway.transport.tool_bodies import Authentication

router = guarded_router(prefix="/api/v1/mcp-servers", tags=["tools"])

Writer = Annotated[Principal, Depends(Requires(Permission.TOOLS_WRITE))]

_EXAMPLE: Final[dict[str, Any]] = {
    "name": "tickets",
    "url": "https://tickets.example.com/mcp",
    "auth": {"scheme": "bearer", "secret": "tickets-token"},
}


class NewMcpServer(Body):
    """A server to be registered: its `url`, or the name of a stdio server that the operator offers."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$", description="The first part of its tools' names.")]
    url: Annotated[
        Text, Field(pattern=r"^(https?://.+)?$", max_length=2048, description="Its streamable HTTP endpoint.")
    ] = ""
    stdio: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")] = ""
    auth: Authentication | None = None
    side_effect: Annotated[
        Literal[SideEffect.NONE, SideEffect.ASK], Field(description="What a call of its tools changes.")
    ] = SideEffect.ASK
    policy: ToolPolicy = ToolPolicy.ASK
    timeout_ms: Annotated[int, Field(ge=1, le=300_000)] = 10_000

    def server(self) -> McpServer:
        """The server."""
        return McpServer(
            name=self.name,
            url=self.url,
            stdio=self.stdio,
            auth=self.auth.auth() if self.auth else None,
            side_effect=self.side_effect,
            policy=self.policy,
            timeout_ms=self.timeout_ms,
        )


@dataclass(frozen=True, slots=True)
class McpServers:
    """All servers of the tenant; it has at most 50."""

    items: Sequence[McpServer]


@router.post("", status_code=201, summary="Register an MCP server", responses={**BODY_RESPONSES, **CONFLICT})
async def register_server(body: NewMcpServer, services: ServicesDep, _caller: Writer) -> RegisteredMcpServer:
    """Connects to the server and registers the tools it lists now, which the caller approves by this."""
    return await services.tools.register_mcp_server(body.server())


@router.get("", summary="List MCP servers")
async def list_servers(services: ServicesDep, _caller: Writer) -> McpServers:
    """The servers by name."""
    return McpServers(await services.tools.list_mcp_servers())


@router.post("/{name}/sync", summary="Read a server's tools again", responses=NOT_FOUND)
async def sync_server(name: ResourceName, services: ServicesDep, _caller: Writer) -> SyncedMcpServer:
    """Holds what is new or changed until somebody approves it, and removes what is gone."""
    return await services.tools.sync_mcp_server(name)


@router.delete("/{name}", status_code=204, summary="Remove an MCP server", responses=NOT_FOUND)
async def delete_server(name: ResourceName, services: ServicesDep, _caller: Writer) -> None:
    """Removes the server and its tools."""
    await services.tools.delete_mcp_server(name)
