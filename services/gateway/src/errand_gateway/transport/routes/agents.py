"""Agents."""

from typing import Annotated, Any, Final

from errand_common.principal import Principal
from fastapi import Depends, Response
from pydantic import ConfigDict, Field

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import Agent, Page
from errand_gateway.transport.access import (
    BODY_RESPONSES,
    CONFLICT,
    NOT_FOUND,
    Requires,
    guarded_router,
)
from errand_gateway.transport.etags import IfMatch, etag, expected_version
from errand_gateway.transport.fields import Body, PageDep, ResourceName, SpokenText, Text
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/api/v1/agents", tags=["agents"])

Reader = Annotated[Principal, Depends(Requires(Permission.AGENTS_READ))]
Writer = Annotated[Principal, Depends(Requires(Permission.AGENTS_WRITE))]
ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
AgentName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
ModelName = Annotated[SpokenText, Field(min_length=1, max_length=256)]
CollectionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]

_EXAMPLE: Final[dict[str, Any]] = {
    "description": "Answers questions on staff matters.",
    "instructions": "Answer in one sentence.",
    "tools": ["calculator", "search_knowledge"],
    "collections": ["handbook"],
    "max_steps": 8,
}


class AgentDefinition(Body):
    """What an agent is told, what it may use, where it stops."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    description: Annotated[Text, Field(max_length=2000)] = ""
    instructions: Annotated[Text, Field(max_length=8192)] = ""
    model: Annotated[Text, Field(max_length=256, description="Left out, the default model.")] = ""
    tools: list[ToolName] = Field(default=[], max_length=64)
    collections: list[CollectionName] = Field(default=[], max_length=16)
    max_steps: Annotated[int, Field(ge=1, le=64, description="Model steps of a run.")] = 8
    max_tokens: Annotated[int, Field(ge=1, le=10_000_000, description="Tokens of a run, prompts included.")] = 65_536
    max_seconds: Annotated[int, Field(ge=1, le=3600)] = 120
    max_errors: Annotated[int, Field(ge=1, le=64, description="Failed tool calls that end a run.")] = 3
    max_cost_micros: Annotated[
        int,
        Field(
            ge=0,
            le=2**53 - 1,
            description="Cost of a run in millionths of a US dollar, at the operator's prices; 0 for no limit.",
        ),
    ] = 0
    max_shown_tools: Annotated[
        int, Field(ge=1, le=64, description="Tools the model is shown at once: those nearest to the request.")
    ] = 16
    agents: list[AgentName] = Field(
        default=[], max_length=16, description="Agents it may call like tools, within what is left of its budget."
    )
    fallback_models: list[ModelName] = Field(
        default=[], max_length=4, description="Asked in this order when the model is away or gives nothing usable."
    )
    temperature: Annotated[float, Field(ge=0, le=2, description="0 takes the likeliest token each time.")] = 0.0

    prompt: Annotated[
        str,
        Field(
            pattern=r"^([A-Za-z0-9_-]{1,64}(@[A-Za-z0-9_-]{1,64})?)?$",
            description="In place of the instructions: `NAME`, or `NAME@ALIAS`.",
        ),
    ] = ""

    def agent(self, name: str) -> Agent:
        """The agent of that name."""
        return Agent(
            name=name,
            description=self.description,
            instructions=self.instructions,
            model=self.model,
            tools=list(dict.fromkeys(self.tools)),
            collections=list(dict.fromkeys(self.collections)),
            max_steps=self.max_steps,
            max_tokens=self.max_tokens,
            max_seconds=self.max_seconds,
            max_errors=self.max_errors,
            max_cost_micros=self.max_cost_micros,
            max_shown_tools=self.max_shown_tools,
            agents=list(dict.fromkeys(self.agents)),
            fallback_models=list(dict.fromkeys(self.fallback_models)),
            temperature=self.temperature,
            prompt=self.prompt,
        )


class NewAgent(AgentDefinition):
    """An agent to be made."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "staff", **_EXAMPLE}]})

    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9_-]{1,64}$",
            description="Unique in the tenant: letters, digits, '_' and '-'.",
        ),
    ]


@router.post("", status_code=201, summary="Define an agent", responses={**BODY_RESPONSES, **CONFLICT, **NOT_FOUND})
async def create_agent(body: NewAgent, response: Response, services: ServicesDep, _caller: Writer) -> Agent:
    """A new agent at version 1."""
    return _tagged(await services.agents.create_agent(body.agent(body.name)), response)


@router.get("", summary="List agents")
async def list_agents(page: PageDep, services: ServicesDep, _caller: Reader) -> Page[Agent]:
    """The tenant's agents, the default one first."""
    return await services.agents.list_agents(page)


@router.get("/{name}", summary="Get an agent", responses=NOT_FOUND)
async def get_agent(name: ResourceName, response: Response, services: ServicesDep, _caller: Reader) -> Agent:
    """One agent; its `ETag` is its version."""
    return _tagged(await services.agents.get_agent(name), response)


@router.put(
    "/{name}",
    summary="Replace an agent",
    responses={**BODY_RESPONSES, **CONFLICT, **NOT_FOUND},
)
async def update_agent(
    name: ResourceName,
    body: AgentDefinition,
    response: Response,
    services: ServicesDep,
    _caller: Writer,
    if_match: IfMatch = None,
) -> Agent:
    """Replaces the whole definition as a new version."""
    agent = await services.agents.update_agent(body.agent(name), expected_version=expected_version(if_match))
    return _tagged(agent, response)


@router.delete(
    "/{name}",
    status_code=204,
    summary="Remove an agent",
    responses={**NOT_FOUND, **CONFLICT},
)
async def delete_agent(name: ResourceName, services: ServicesDep, _caller: Writer) -> None:
    """Removes an agent; the default one stays."""
    await services.agents.delete_agent(name)


def _tagged(agent: Agent, response: Response) -> Agent:
    response.headers["ETag"] = etag(agent.version)
    return agent
