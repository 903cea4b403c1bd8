"""Workflows: agents as a graph. What one is, and what is refused when it is saved."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from typing import Any

from errand_common.errors import InvalidArgument

from errand_agent.domain.approvals import Approval
from errand_agent.domain.runs import Usage
from errand_agent.domain.templates import check_template


@dataclass(frozen=True, slots=True)
class Condition:
    """A node runs when another one's output holds a text, or does not."""

    node: str
    contains: str
    negate: bool = False

    def holds(self, output: str) -> bool:
        """Whatever the case."""
        return (self.contains.lower() in output.lower()) is not self.negate


@dataclass(frozen=True, slots=True)
class AgentWork:
    """One message, one answer."""

    agent: str
    message: str


@dataclass(frozen=True, slots=True)
class MapWork:
    """An answer for each item of a node's output."""

    agent: str
    message: str
    items_from: str
    max_items: int


@dataclass(frozen=True, slots=True)
class LoopWork:
    """Answers until one holds a text, or there were enough."""

    agent: str
    message: str
    until_contains: str
    max_rounds: int


@dataclass(frozen=True, slots=True)
class JoinWork:
    """Text put together."""

    output: str


Work = AgentWork | MapWork | LoopWork | JoinWork
_KINDS: Mapping[str, type[Work]] = {"agent": AgentWork, "map": MapWork, "loop": LoopWork, "join": JoinWork}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_EXTRA_VARIABLES: Mapping[type[Work], frozenset[str]] = {
    MapWork: frozenset({"item"}),
    LoopWork: frozenset({"previous", "round"}),
}


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the graph."""

    id: str
    work: Work
    needs: tuple[str, ...] = ()
    when: Condition | None = None

    @property
    def template(self) -> str:
        """What is rendered for it."""
        return self.work.output if isinstance(self.work, JoinWork) else self.work.message


@dataclass(frozen=True, slots=True)
class Workflow:
    """A graph; the output of its last node is its own."""

    name: str
    nodes: tuple[Node, ...]
    max_tokens: int
    max_seconds: int
    description: str = ""
    version: int = 1

    @property
    def agents(self) -> set[str]:
        """The agents it names."""
        return {node.work.agent for node in self.nodes if not isinstance(node.work, JoinWork)}

    def to_json(self) -> dict[str, Any]:
        """As stored."""
        nodes = [
            {**asdict(node), "work": {"kind": _NAMES[type(node.work)], **asdict(node.work)}} for node in self.nodes
        ]
        return {**asdict(self), "nodes": nodes}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Workflow:
        """From what was stored."""
        return cls(**{**stored, "nodes": tuple(_node(node) for node in stored["nodes"])})


def _node(stored: Mapping[str, Any]) -> Node:
    work = dict(stored["work"])
    kind = _KINDS[work.pop("kind")]
    when = Condition(**stored["when"]) if stored["when"] else None
    return Node(stored["id"], kind(**work), tuple(stored["needs"]), when)


def check(workflow: Workflow) -> None:
    """Raises InvalidArgument, naming the field, for a graph that could not run."""
    ids = [node.id for node in workflow.nodes]
    for index, node in enumerate(workflow.nodes):
        where = f"workflow.nodes[{index}]"
        if node.id in ids[:index]:
            raise InvalidArgument(f"{where}.id: {node.id!r} is there twice; ids are unique.", field=f"{where}.id")
        if unknown := sorted(set(node.needs) - set(ids)):
            _refuse(f"{where}.needs", f"there is no node {unknown[0]!r}")
        if node.when is not None and node.when.node not in node.needs:
            _refuse(f"{where}.when.node", f"{node.when.node!r} is not among the node's needs")
        if isinstance(node.work, MapWork) and node.work.items_from not in node.needs:
            _refuse(f"{where}.map.items_from", f"{node.work.items_from!r} is not among the node's needs")
    before = _ancestors(workflow)
    for index, node in enumerate(workflow.nodes):
        _check_template(node, before[node.id], f"workflow.nodes[{index}]")


def _refuse(field_name: str, what: str) -> None:
    raise InvalidArgument(f"{field_name}: {what}.", field=field_name)


def order(workflow: Workflow) -> list[Node]:
    """The nodes, each after those it needs. Raises InvalidArgument for a cycle."""
    by_id = {node.id: node for node in workflow.nodes}
    try:
        sorted_ids = list(TopologicalSorter({node.id: node.needs for node in workflow.nodes}).static_order())
    except CycleError as error:
        cycle = " -> ".join(error.args[1])
        raise InvalidArgument(
            f"workflow.nodes: {cycle} is a cycle; use a loop node to repeat an agent.", field="workflow.nodes"
        ) from error
    return [by_id[node_id] for node_id in sorted_ids]


def _ancestors(workflow: Workflow) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for node in order(workflow):
        found[node.id] = set(node.needs).union(*(found[need] for need in node.needs))
    return found


def _check_template(node: Node, before: set[str], where: str) -> None:
    kind = _NAMES[type(node.work)]
    part = {"agent": "agent.message", "map": "map.each.message", "loop": "loop.body.message", "join": "join.output"}
    field_name = f"{where}.{part[kind]}"
    known = {"input"} | before | _EXTRA_VARIABLES.get(type(node.work), frozenset())
    check_template(node.template, known, field_name)


def items_of(output: str, limit: int) -> list[str]:
    """The items of a list: JSON, or a line an item. Raises ValueError for too many."""
    try:
        parsed = json.loads(output)
    except ValueError:
        parsed = None
    if isinstance(parsed, list):
        items = [item if isinstance(item, str) else json.dumps(item, ensure_ascii=False) for item in parsed]
    else:
        items = [line.strip() for line in output.splitlines() if line.strip()]
    if len(items) > limit:
        raise ValueError(f"there are {len(items)} items; at most {limit} are taken")
    return items


class WorkflowState(StrEnum):
    """How a run stands; the names of errand.agent.v1.WorkflowState."""

    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    OVER_BUDGET = "OVER_BUDGET"


class NodeState(StrEnum):
    """How a node stands; the names of errand.agent.v1.NodeState."""

    DONE = "DONE"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What came of a node."""

    id: str
    state: NodeState
    output: str = ""
    run_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkflowRun:
    """A run of a workflow."""

    id: str
    workflow: Workflow
    input: str
    state: WorkflowState
    created_at: datetime
    output: str = ""
    error: str = ""
    nodes: Sequence[NodeResult] = ()
    usage: Usage = field(default_factory=Usage)
    ended_at: datetime | None = None
    approvals: Sequence[Approval] = ()
