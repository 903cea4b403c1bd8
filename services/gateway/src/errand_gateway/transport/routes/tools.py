"""Tools."""

from typing import Annotated, Any, Final

from errand_common.principal import Principal
from fastapi import Depends, Query
from pydantic import AfterValidator, ConfigDict, Field

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import (
    HttpBinding,
    HttpMethod,
    Page,
    SideEffect,
    Tool,
    ToolKind,
    ToolPolicy,
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
            http=HttpBinding(self.http.method, self.http.url_template),
            reconcile_tool=self.reconcile_tool,
            schema_hash="",
        )


class ToolChange(Body):
    """Whether the tenant may use a tool."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"enabled": False}]})

    enabled: bool


@router.post("", status_code=201, summary="Register a tool", responses={**BODY_RESPONSES, **CONFLICT})
async def register_tool(body: NewTool, services: ServicesDep, _caller: Writer) -> Tool:
    """Registers an HTTP endpoint as a tool."""
    return await services.tools.register(body.tool())


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
