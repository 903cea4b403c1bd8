"""Tools."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import orjson
from errand_common.db import new_id
from errand_common.principal import Principal
from fastapi import Depends, Query, Response

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import Page
from errand_gateway.domain.tool_resources import Imported, Tool, ToolFilter, ToolKind, ToolRating, ToolResult
from errand_gateway.transport.access import (
    BODY_RESPONSES,
    CONFLICT,
    NOT_FOUND,
    Requires,
    guarded_router,
)
from errand_gateway.transport.etags import IfMatch, etag, expected_version
from errand_gateway.transport.fields import IdempotencyKey, PageDep, ResourceName, Text
from errand_gateway.transport.services import ServicesDep
from errand_gateway.transport.tool_bodies import (
    NewTool,
    OpenApiDocument,
    ToolApproval,
    ToolCall,
    ToolChange,
    ToolDefinition,
)

router = guarded_router(prefix="/api/v1/tools", tags=["tools"])

Reader = Annotated[Principal, Depends(Requires(Permission.TOOLS_READ))]
Writer = Annotated[Principal, Depends(Requires(Permission.TOOLS_WRITE))]


@dataclass(frozen=True, slots=True)
class ToolVersions:
    """A tool as it was; at most 20 versions are kept."""

    items: Sequence[Tool]


@router.post("", status_code=201, summary="Register a tool", responses={**BODY_RESPONSES, **CONFLICT})
async def register_tool(body: NewTool, services: ServicesDep, _caller: Writer) -> Tool:
    """Registers an HTTP endpoint, a gRPC method, a WebAssembly module or Python code as a tool."""
    return await services.tools.register(body.tool(body.name), body.module)


@router.post("/import", summary="Import an OpenAPI document", responses={**BODY_RESPONSES, **CONFLICT})
async def import_openapi(body: OpenApiDocument, services: ServicesDep, _caller: Writer) -> Imported:
    """Registers each operation as a tool; `skipped` tells which are none, and why."""
    return await services.tools.import_openapi(body.order())


@router.get("", summary="List tools")
async def list_tools(
    page: PageDep,
    services: ServicesDep,
    _caller: Reader,
    enabled_only: Annotated[bool, Query(description="Leaves out tools that are off.")] = False,
    query: Annotated[
        Text, Query(max_length=200, description="Only those with each of these words in name or description.")
    ] = "",
    kind: Annotated[ToolKind | None, Query(description="Only of this kind.")] = None,
    mcp_server: Annotated[str, Query(pattern=r"^[A-Za-z0-9_-]{0,32}$", description="Only of this MCP server.")] = "",
) -> Page[Tool]:
    """The tools of the tenant, built-in ones first."""
    return await services.tools.list_tools(page, ToolFilter(enabled_only, query, kind, mcp_server))


@router.get("/{name}", summary="Get a tool", responses=NOT_FOUND)
async def get_tool(name: ResourceName, services: ServicesDep, response: Response, _caller: Reader) -> Tool:
    """One tool; the ETag names its version."""
    tool = await services.tools.get_tool(name)
    response.headers["ETag"] = etag(tool.version)
    return tool


@router.put("/{name}", summary="Change a tool", responses={**BODY_RESPONSES, **NOT_FOUND, **CONFLICT})
async def replace_tool(
    name: ResourceName,
    body: ToolDefinition,
    services: ServicesDep,
    response: Response,
    _caller: Writer,
    if_match: IfMatch = None,
) -> Tool:
    """Replaces a registered tool's definition; what a call would do differently makes a new version."""
    version = expected_version(if_match)
    tool = await services.tools.update_tool(body.tool(name), body.module, expected_version=version)
    response.headers["ETag"] = etag(tool.version)
    return tool


@router.get("/{name}/versions", summary="List a tool's versions", responses=NOT_FOUND)
async def list_versions(name: ResourceName, services: ServicesDep, _caller: Reader) -> ToolVersions:
    """The tool as it was, the newest first."""
    return ToolVersions(await services.tools.list_tool_versions(name))


@router.patch("/{name}", summary="Turn a tool on or off", responses={**BODY_RESPONSES, **NOT_FOUND})
async def change_tool(name: ResourceName, body: ToolChange, services: ServicesDep, _caller: Writer) -> Tool:
    """Turns a tool on or off for the tenant."""
    return await services.tools.set_enabled(name, enabled=body.enabled)


@router.delete("/{name}", status_code=204, summary="Remove a tool", responses={**NOT_FOUND, **CONFLICT})
async def delete_tool(name: ResourceName, services: ServicesDep, _caller: Writer) -> None:
    """Removes a registered tool; built-in tools can only be turned off."""
    await services.tools.delete_tool(name)


@router.get("/{name}/lint", summary="Rate a tool", responses=NOT_FOUND)
async def lint_tool(name: ResourceName, services: ServicesDep, _caller: Reader) -> ToolRating:
    """How well a small model can use the tool beside the others, and what to change."""
    return await services.tools.lint_tool(name)


@router.post("/{name}/approve", summary="Approve a held tool", responses={**BODY_RESPONSES, **NOT_FOUND, **CONFLICT})
async def approve_tool(name: ResourceName, body: ToolApproval, services: ServicesDep, _caller: Writer) -> Tool:
    """Takes over what the tool's server offers by now."""
    return await services.tools.approve_tool(name, body.schema_hash)


@router.post("/{name}/call", summary="Call a tool", responses={**BODY_RESPONSES, **NOT_FOUND, **CONFLICT})
async def call_tool(
    name: ResourceName, body: ToolCall, services: ServicesDep, caller: Writer, idempotency_key: IdempotencyKey = None
) -> ToolResult:
    """Runs a tool once, outside any run; the caller is the person who approves it.

    A tool that fails is an answer too: `status` tells how the call ended. The same `Idempotency-Key` gives the
    stored result of a tool that changes something.
    """
    await services.tools.get_tool(name)
    arguments = orjson.dumps(body.arguments).decode()
    return await services.tools.execute_tool(name, arguments, run_id=_run_id(caller, idempotency_key))


def _run_id(caller: Principal, key: str | None) -> str:
    """Names the call: equal for equal keys of one caller, else new."""
    if key is None:
        return new_id("call")
    return f"call_{hashlib.sha256(f'{caller.id} {key}'.encode()).hexdigest()[:32]}"
