"""Workflows: several agents as a graph."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from errand_common.principal import Principal
from fastapi import Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from errand_gateway.domain import workflows as w
from errand_gateway.domain.permissions import Permission
from errand_gateway.transport.access import BODY_RESPONSES, CONFLICT, NOT_FOUND, Requires, guarded_router
from errand_gateway.transport.context import context_of
from errand_gateway.transport.etags import IfMatch, etag, expected_version
from errand_gateway.transport.fields import ID_PATTERN, Body, SpokenText, Text
from errand_gateway.transport.services import ServicesDep
from errand_gateway.transport.spending import hold_for_run

router = guarded_router(prefix="/api/v1/workflows", tags=["workflows"])

Reader = Annotated[Principal, Depends(Requires(Permission.WORKFLOWS_READ))]
Writer = Annotated[Principal, Depends(Requires(Permission.WORKFLOWS_WRITE))]
Starter = Annotated[Principal, Depends(Requires(Permission.RUNS_CREATE))]
WorkflowName = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", examples=["report"])]
NodeId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Template = Annotated[SpokenText, Field(min_length=1, max_length=16_384)]
Wanted = Annotated[SpokenText, Field(min_length=1, max_length=1000)]

_EXAMPLE: Final[dict[str, Any]] = {
    "description": "Research, analysis, writing.",
    "max_tokens": 50_000,
    "max_seconds": 600,
    "nodes": [
        {"id": "research", "agent": {"message": "Find out about {{ input }}."}},
        {"id": "analysis", "needs": ["research"], "agent": {"message": "Weigh this: {{ research }}"}},
        {"id": "writing", "needs": ["analysis"], "agent": {"message": "Write a report: {{ analysis }}"}},
    ],
}


class Condition(Body):
    """When a node runs: by what one of its needs gave."""

    node: NodeId
    contains: Annotated[Wanted, Field(description="The text its output must hold, whatever the case.")]
    negate: Annotated[bool, Field(description="Whether it must not hold it.")] = False

    def condition(self) -> w.Condition:
        """The domain's."""
        return w.Condition(self.node, self.contains, self.negate)


class AgentNode(Body):
    """An agent answers one message."""

    agent: Annotated[str, Field(max_length=64, pattern=ID_PATTERN, description="Left out, the default one.")] = ""
    message: Annotated[Template, Field(description="A Jinja template over `input` and the nodes before.")]

    def node(self) -> w.AgentNode:
        """The domain's."""
        return w.AgentNode(self.message, self.agent)


class MapNode(Body):
    """An agent answers once for each item of a list; the output is a JSON list."""

    each: Annotated[AgentNode, Field(description="Its message may use `item`.")]
    items_from: Annotated[NodeId, Field(description="The need whose output is the list: JSON, or a line an item.")]
    max_items: Annotated[int, Field(ge=1, le=64, description="More fail the node.")]

    def node(self) -> w.MapNode:
        """The domain's."""
        return w.MapNode(self.each.node(), self.items_from, self.max_items)


class LoopNode(Body):
    """An agent answers again and again; the output is the last answer."""

    body: Annotated[AgentNode, Field(description="Its message may use `previous` and `round`.")]
    until_contains: Annotated[Wanted, Field(description="It ends once the answer holds this, whatever the case.")]
    max_rounds: Annotated[int, Field(ge=1, le=16, description="The last answer counts then.")]

    def node(self) -> w.LoopNode:
        """The domain's."""
        return w.LoopNode(self.body.node(), self.until_contains, self.max_rounds)


class JoinNode(Body):
    """Puts outputs together, with no model."""

    output: Annotated[Template, Field(description="A Jinja template over `input` and the nodes before.")]

    def node(self) -> w.JoinNode:
        """The domain's."""
        return w.JoinNode(self.output)


class WorkflowNode(Body):
    """A node of the graph: exactly one of `agent`, `map`, `loop` and `join`."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [kind]} for kind in ("agent", "map", "loop", "join")]}
    )

    id: NodeId
    needs: list[NodeId] = Field(default=[], max_length=16, description="Nodes that come before.")
    when: Condition | None = None
    agent: AgentNode | None = None
    map: MapNode | None = None
    loop: LoopNode | None = None
    join: JoinNode | None = None

    @model_validator(mode="after")
    def _has_one_kind(self) -> "WorkflowNode":
        if sum(kind is not None for kind in (self.agent, self.map, self.loop, self.join)) != 1:
            raise ValueError("give exactly one of agent, map, loop and join")
        return self

    def node(self) -> w.WorkflowNode:
        """The domain's."""
        return w.WorkflowNode(
            id=self.id,
            needs=list(dict.fromkeys(self.needs)),
            when=self.when.condition() if self.when else None,
            agent=self.agent.node() if self.agent else None,
            map=self.map.node() if self.map else None,
            loop=self.loop.node() if self.loop else None,
            join=self.join.node() if self.join else None,
        )


class WorkflowDefinition(Body):
    """A graph of agents and its budget; the output of the last node is the workflow's."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    description: Annotated[Text, Field(max_length=2000)] = ""
    nodes: list[WorkflowNode] = Field(min_length=1, max_length=64)
    max_tokens: Annotated[int, Field(ge=1, le=100_000_000, description="Tokens of all its agents' runs.")]
    max_seconds: Annotated[int, Field(ge=1, le=86_400, description="People's time to approve calls counts.")]

    def workflow(self, name: str) -> w.Workflow:
        """The workflow of that name."""
        nodes = [node.node() for node in self.nodes]
        return w.Workflow(name, nodes, self.max_tokens, self.max_seconds, self.description)


class WorkflowInput(Body):
    """What a run is given."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"input": "the warranty of our pumps"}]})

    input: Annotated[SpokenText, Field(min_length=1, max_length=32_768)]


class WorkflowList(BaseModel):
    """All of the tenant's workflows; there are at most 200."""

    items: Sequence[w.Workflow]


@router.get("", summary="List workflows")
async def list_workflows(services: ServicesDep, _caller: Reader) -> WorkflowList:
    """The tenant's workflows by name."""
    return WorkflowList(items=await services.workflows.list_workflows())


@router.put("/{workflow}", summary="Define a workflow", responses={**BODY_RESPONSES, **CONFLICT})
async def put_workflow(
    workflow: WorkflowName,
    body: WorkflowDefinition,
    response: Response,
    services: ServicesDep,
    _caller: Writer,
    if_match: IfMatch = None,
) -> w.Workflow:
    """Defines it or replaces it as a new version; all of it is checked first, nothing is half-saved."""
    stored = await services.workflows.put_workflow(body.workflow(workflow), expected_version=expected_version(if_match))
    return _tagged(stored, response)


@router.get("/{workflow}", summary="Get a workflow", responses=NOT_FOUND)
async def get_workflow(
    workflow: WorkflowName, response: Response, services: ServicesDep, _caller: Reader
) -> w.Workflow:
    """One workflow; its `ETag` is its version."""
    return _tagged(await services.workflows.get_workflow(workflow), response)


@router.delete("/{workflow}", status_code=204, summary="Remove a workflow", responses=NOT_FOUND)
async def delete_workflow(workflow: WorkflowName, services: ServicesDep, _caller: Writer) -> None:
    """Removes it; its runs stay."""
    await services.workflows.delete_workflow(workflow)


@router.post("/{workflow}/runs", status_code=202, summary="Run a workflow", responses={**BODY_RESPONSES, **NOT_FOUND})
async def run_workflow(
    workflow: WorkflowName,
    body: WorkflowInput,
    request: Request,
    response: Response,
    services: ServicesDep,
    caller: Starter,
) -> w.WorkflowRun:
    """Starts a run in the background and returns at once."""
    await hold_for_run(request, services, caller, "")
    run = await services.workflows.run_workflow(workflow, body.input)
    context = context_of(request.scope)
    context.run_id = run.id
    await services.background.follow_workflow(run, context)
    response.headers["Location"] = f"/api/v1/workflow-runs/{run.id}"
    return run


def _tagged(workflow: w.Workflow, response: Response) -> w.Workflow:
    response.headers["ETag"] = etag(workflow.version)
    return workflow
