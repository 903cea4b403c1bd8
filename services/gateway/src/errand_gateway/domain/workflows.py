"""Workflows: several agents as a graph."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from errand_gateway.domain.resources import Page, PageQuery, Usage


@dataclass(frozen=True, slots=True)
class Condition:
    """When a node runs: when the output of one of its needs holds a text, or does not."""

    node: str
    contains: str
    negate: bool = False


@dataclass(frozen=True, slots=True)
class AgentNode:
    """An agent answers one message."""

    message: str
    agent: str = ""


@dataclass(frozen=True, slots=True)
class MapNode:
    """An agent answers once for each item of a list."""

    each: AgentNode
    items_from: str
    max_items: int


@dataclass(frozen=True, slots=True)
class LoopNode:
    """An agent answers until an answer holds a text."""

    body: AgentNode
    until_contains: str
    max_rounds: int


@dataclass(frozen=True, slots=True)
class JoinNode:
    """Outputs put together, with no model."""

    output: str


@dataclass(frozen=True, slots=True)
class WorkflowNode:
    """A node of the graph; exactly one of agent, map, loop and join says what it does."""

    id: str
    needs: Sequence[str] = ()
    when: Condition | None = None
    agent: AgentNode | None = None
    map: MapNode | None = None
    loop: LoopNode | None = None
    join: JoinNode | None = None


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow; its output is that of the last node."""

    name: str
    nodes: Sequence[WorkflowNode]
    max_tokens: int
    max_seconds: int
    description: str = ""
    version: int = 0


class WorkflowState(StrEnum):
    """How a workflow's run stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    OVER_BUDGET = "over_budget"


class NodeState(StrEnum):
    """How a node of a run stands."""

    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What came of a node, and the agents' runs it was made of."""

    id: str
    state: NodeState
    output: str
    run_ids: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class WorkflowRun:
    """A run of a workflow; `nodes` are those that have ended, in the order they did."""

    id: str
    workflow: str
    version: int
    input: str
    state: WorkflowState
    output: str = ""
    error: str = ""
    nodes: Sequence[NodeResult] = ()
    usage: Usage = field(default_factory=Usage)
    created_at: datetime | None = None
    ended_at: datetime | None = None


class WorkflowBackend(Protocol):
    """Workflows of the agent service."""

    async def put_workflow(self, workflow: Workflow, *, expected_version: int) -> Workflow:
        """Defines or replaces a workflow; 0 replaces any version."""
        ...

    async def get_workflow(self, name: str) -> Workflow:
        """One workflow."""
        ...

    async def list_workflows(self) -> Sequence[Workflow]:
        """The workflows by name."""
        ...

    async def delete_workflow(self, name: str) -> None:
        """Removes a workflow; its runs stay."""
        ...

    async def run_workflow(self, name: str, given: str) -> WorkflowRun:
        """Starts a run in the background."""
        ...

    async def get_workflow_run(self, run_id: str) -> WorkflowRun:
        """One run."""
        ...

    async def list_workflow_runs(self, page: PageQuery, *, workflow: str) -> Page[WorkflowRun]:
        """Runs, newest first."""
        ...

    async def cancel_workflow_run(self, run_id: str) -> WorkflowRun:
        """Cancels a run."""
        ...
