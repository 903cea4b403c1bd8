"""Tools."""

import hashlib
from typing import Annotated, Any, Final

import orjson
from errand_common.db import new_id
from errand_common.principal import Principal
from fastapi import Depends, Query
from pydantic import AfterValidator, ConfigDict, Field

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import Page
from errand_gateway.domain.tool_resources import (
    AuthScheme,
    HttpBinding,
    HttpMethod,
    Imported,
    SideEffect,
    Tool,
    ToolAuth,
    ToolImport,
    ToolKind,
    ToolPolicy,
    ToolRating,
    ToolResult,
)
from errand_gateway.transport.access import (
    BODY_RESPONSES,
    CONFLICT,
    NOT_FOUND,
    Requires,
    guarded_router,
)
from errand_gateway.transport.fields import (
    Body,
    IdempotencyKey,
    PageDep,
    ResourceName,
    SpokenText,
    Text,
    bounded_json,
)
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/api/v1/tools", tags=["tools"])

Reader = Annotated[Principal, Depends(Requires(Permission.TOOLS_READ))]
Writer = Annotated[Principal, Depends(Requires(Permission.TOOLS_WRITE))]

_EXAMPLE: Final[dict[str, Any]] = {
    "name": "get_weather",
    "description": "Current weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
    "http": {"method": "GET", "url_template": "https://weather.example.com/v1/{city}"},
    "side_effect": "none",
}
_DOCUMENT_EXAMPLE: Final[dict[str, Any]] = {
    "document": (
        "{openapi: 3.1.0, info: {title: Shop, version: '1'}, servers: [{url: https://shop.example.com}],"
        " paths: {/orders: {get: {operationId: list_orders, summary: Orders of the shop., responses: {}}}}}"
    ),
    "name_prefix": "shop.",
    "dry_run": True,
}

SecretName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", examples=["shop-key"])]
ArgumentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")]


class Authentication(Body):
    """How calls prove who they are: by a secret stored under a name."""

    scheme: AuthScheme
    secret: SecretName
    header: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9-]{0,64}$", description="For `header`: its name, such as X-Api-Key.")
    ] = ""

    def auth(self) -> ToolAuth:
        """The reference."""
        return ToolAuth(self.scheme, self.secret, self.header)


class HttpEndpoint(Body):
    """How an HTTP tool is called."""

    method: HttpMethod
    url_template: Annotated[
        Text,
        Field(
            pattern=r"^https?://.+",
            max_length=2048,
            description="Absolute URL; {name} is replaced by the argument of that name.",
        ),
    ]
    auth: Authentication | None = None
    query_arguments: Annotated[
        tuple[ArgumentName, ...],
        Field(max_length=64, description="Go to the query even where the rest goes to the body."),
    ] = ()
    body_argument: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9_-]{0,64}$", description="Its value is the whole body; empty: all that is left."),
    ] = ""

    def binding(self) -> HttpBinding:
        """The endpoint."""
        return HttpBinding(
            self.method,
            self.url_template,
            auth=self.auth.auth() if self.auth else None,
            query_arguments=self.query_arguments,
            body_argument=self.body_argument,
        )


class NewTool(Body):
    """An HTTP tool to be registered."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
    description: Annotated[
        SpokenText,
        Field(min_length=1, max_length=2000, description="In words that users may use."),
    ]
    parameters: Annotated[
        dict[str, Any],
        AfterValidator(bounded_json(65_536)),
        Field(description="JSON Schema of the arguments, an object schema."),
    ]
    http: HttpEndpoint
    timeout_ms: Annotated[int, Field(ge=1, le=300_000)] = 10_000
    side_effect: SideEffect = SideEffect.ASK
    policy: ToolPolicy = ToolPolicy.AUTO
    reconcile_tool: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,128}$")] = ""

    def tool(self) -> Tool:
        """The tool."""
        return Tool(
            name=self.name,
            description=self.description,
            parameters=self.parameters,
            kind=ToolKind.HTTP,
            enabled=True,
            timeout_ms=self.timeout_ms,
            side_effect=self.side_effect,
            policy=self.policy,
            http=self.http.binding(),
            reconcile_tool=self.reconcile_tool,
            schema_hash="",
        )


class OpenApiDocument(Body):
    """A document whose operations become tools."""

    model_config = ConfigDict(json_schema_extra={"examples": [_DOCUMENT_EXAMPLE]})

    document: Annotated[
        Text, Field(min_length=2, max_length=8 * 1024 * 1024, description="JSON or YAML text of OpenAPI 3.0 or 3.1.")
    ]
    name_prefix: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9._-]{0,32}$", description="Put before each name, such as `shop.`.")
    ] = ""
    base_url: Annotated[
        Text,
        Field(pattern=r"^(https?://.+)?$", max_length=2048, description="Instead of the document's first server."),
    ] = ""
    auth: Authentication | None = None
    side_effect: Annotated[SideEffect, Field(description="Of operations other than GET; `reconcile` is refused.")] = (
        SideEffect.ASK
    )
    policy: Annotated[ToolPolicy, Field(description="For operations other than GET.")] = ToolPolicy.ASK
    replace: Annotated[bool, Field(description="Takes over names that are taken, instead of skipping them.")] = False
    dry_run: Annotated[bool, Field(description="Only tells what would be registered.")] = False

    def order(self) -> ToolImport:
        """What is asked for."""
        return ToolImport(
            document=self.document,
            name_prefix=self.name_prefix,
            base_url=self.base_url,
            auth=self.auth.auth() if self.auth else None,
            side_effect=self.side_effect,
            policy=self.policy,
            replace=self.replace,
            dry_run=self.dry_run,
        )


class ToolApproval(Body):
    """What was looked at is what is approved."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"schema_hash": "0" * 64}]})

    schema_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="The offer's `schema_hash`.")]


class ToolCall(Body):
    """Arguments of one call."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"arguments": {"expression": "2 * 21"}}]})

    arguments: Annotated[dict[str, Any], AfterValidator(bounded_json(1_048_576))]


class ToolChange(Body):
    """Whether the tenant may use a tool."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"enabled": False}]})

    enabled: bool


@router.post("", status_code=201, summary="Register a tool", responses={**BODY_RESPONSES, **CONFLICT})
async def register_tool(body: NewTool, services: ServicesDep, _caller: Writer) -> Tool:
    """Registers an HTTP endpoint as a tool."""
    return await services.tools.register(body.tool())


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
) -> Page[Tool]:
    """The tools of the tenant, built-in ones first."""
    return await services.tools.list_tools(page, enabled_only=enabled_only)


@router.get("/{name}", summary="Get a tool", responses=NOT_FOUND)
async def get_tool(name: ResourceName, services: ServicesDep, _caller: Reader) -> Tool:
    """One tool."""
    return await services.tools.get_tool(name)


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
