"""Graphs that are refused, and how the others run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from errand_agent.domain.runs import Run, RunState, StopReason, Usage
from errand_agent.domain.workflow_engine import Ending, WorkflowEngine
from errand_agent.domain.workflows import (
    AgentWork,
    Condition,
    JoinWork,
    LoopWork,
    MapWork,
    Node,
    NodeResult,
    NodeState,
    Workflow,
    WorkflowState,
    check,
)
from errand_common.db import utc_now
from errand_common.errors import InvalidArgument, NotFound


def graph(*nodes: Node, max_tokens: int = 1000) -> Workflow:
    return Workflow("flow", nodes, max_tokens, 60)


def agent(id: str, message: str = "{{ input }}", *needs: str, when: Condition | None = None) -> Node:
    return Node(id, AgentWork("", message), needs, when)


class Echo:
    """Answers what it is asked, in brackets; each answer takes 10 tokens."""

    def __init__(self, answer: Callable[[str], str] = lambda message: f"[{message}]") -> None:
        self.make = answer
        self.asked: list[tuple[str, str, int]] = []
        self.stop = StopReason.ANSWER
        self.at_once = 0
        self.most_at_once = 0
        self.pause = 0.0
        self.thought = 0.0

    async def paused_seconds(self) -> float:
        return self.thought

    async def answer(self, agent: str, message: str, *, key: str, max_tokens: int) -> Run:
        self.asked.append((key, message, max_tokens))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.pause)
        self.at_once -= 1
        run = Run(f"run-{key}", "t", "p", "c", agent, message, RunState.ENDED, utc_now())
        return replace(run, answer=self.make(message), stop_reason=self.stop, usage=Usage(5, 5))


async def ran(workflow: Workflow, agents: Echo, *, seconds: float = 60) -> tuple[Ending, list[NodeResult]]:
    check(workflow)
    assert Workflow.from_json(json.loads(json.dumps(workflow.to_json()))) == workflow
    told: list[NodeResult] = []

    async def tell(result: NodeResult) -> None:
        told.append(result)

    return await WorkflowEngine(workflow, "tea", agents, tell, seconds).run(), told


async def test_research_analysis_writing() -> None:
    flow = graph(
        agent("research", "Find out about {{ input }}."),
        agent("analysis", "Weigh: {{ research }}", "research"),
        agent("writing", "Write on {{ input }}: {{ analysis }}", "analysis"),
    )
    ending, told = await ran(flow, Echo())
    assert ending.output == "[Write on tea: [Weigh: [Find out about tea.]]]"
    assert (ending.state, ending.usage) == (WorkflowState.COMPLETED, Usage(15, 15))
    assert [(node.id, node.run_ids) for node in told] == [
        ("research", ("run-research:0",)),
        ("analysis", ("run-analysis:0",)),
        ("writing", ("run-writing:0",)),
    ]


async def test_nodes_that_need_nothing_run_at_once() -> None:
    agents = Echo()
    agents.pause = 0.01
    join = Node("all", JoinWork("{{ a }}+{{ b }}"), ("a", "b"))
    ending, _ = await ran(graph(agent("a", "1"), agent("b", "2"), join), agents)
    assert (ending.output, agents.most_at_once) == ("[1]+[2]", 2)


@pytest.mark.parametrize(("answer", "output"), [("YES, do", "yes-way"), ("never", "no-way")])
async def test_one_branch_runs_and_the_other_is_skipped(answer: str, output: str) -> None:
    flow = graph(
        agent("ask"),
        Node("yes", JoinWork("yes-way"), ("ask",), Condition("ask", "yes")),
        Node("no", JoinWork("no-way"), ("ask",), Condition("ask", "yes", negate=True)),
        Node("after", JoinWork("{{ yes }}{{ no }}"), ("yes", "no")),
    )
    ending, told = await ran(flow, Echo(lambda _: answer))
    assert ending.output == output
    assert sorted(node.state for node in told) == [NodeState.DONE] * 3 + [NodeState.SKIPPED]


async def test_what_needs_only_skipped_nodes_is_skipped() -> None:
    flow = graph(
        agent("ask"), agent("a", "x", "ask", when=Condition("ask", "nothing")), agent("b", "y", "a"), agent("last", "z")
    )
    ending, told = await ran(flow, Echo())
    assert {node.id: node.state for node in told if node.state is NodeState.SKIPPED} == {
        "a": NodeState.SKIPPED,
        "b": NodeState.SKIPPED,
    }
    assert ending.output == "[z]"


@pytest.mark.parametrize("listed", ['["a", {"b": 1}]', 'a\n\n {"b": 1} \n'])
async def test_a_map_answers_each_item_at_once(listed: str) -> None:
    agents = Echo()
    agents.pause = 0.01
    flow = graph(Node("list", JoinWork(listed)), Node("each", MapWork("", "Do {{ item }}", "list", 2), ("list",)))
    ending, _ = await ran(flow, agents)
    assert json.loads(ending.output) == ["[Do a]", '[Do {"b": 1}]']
    assert agents.most_at_once == 2


async def test_a_list_that_is_too_long_fails_its_node() -> None:
    flow = graph(Node("list", JoinWork("a\nb\nc")), Node("each", MapWork("", "{{ item }}", "list", 2), ("list",)))
    agents = Echo()
    ending, told = await ran(flow, agents)
    assert (ending.state, ending.error) == (WorkflowState.FAILED, "each: there are 3 items; at most 2 are taken")
    assert told[-1].state is NodeState.FAILED
    assert agents.asked == []


async def test_a_loop_ends_when_it_is_good() -> None:
    agents = Echo(lambda message: "Good." if "round 3" in message else "bad")
    loop = Node("loop", LoopWork("", "round {{ round }} after {{ previous }}", "good", 5))
    ending, told = await ran(graph(loop), agents)
    assert [message for _, message, _ in agents.asked] == ["round 1 after ", "round 2 after bad", "round 3 after bad"]
    assert (ending.output, len(told[0].run_ids)) == ("Good.", 3)


async def test_a_loop_is_bounded() -> None:
    agents = Echo(lambda _: "bad")
    await ran(graph(Node("loop", LoopWork("", "again", "good", 4))), agents)
    assert len(agents.asked) == 4


async def test_agents_inherit_what_is_left_of_the_budget() -> None:
    agents = Echo()
    flow = graph(agent("a"), agent("b", "x", "a"), agent("c", "y", "b"), max_tokens=20)
    ending, _ = await ran(flow, agents)
    assert [left for *_, left in agents.asked] == [20, 10]
    assert (ending.state, ending.error) == (WorkflowState.OVER_BUDGET, "max_tokens was met")


async def test_the_time_limit_ends_a_run() -> None:
    agents = Echo()
    agents.pause = 30
    ending, _ = await ran(graph(agent("a")), agents, seconds=0.05)
    assert (ending.state, ending.error) == (WorkflowState.OVER_BUDGET, "max_seconds was met")


async def test_people_s_time_is_not_the_workflow_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("errand_agent.domain.workflow_engine._LOOK_SECONDS", 0.01)
    agents = Echo()
    agents.pause, agents.thought = 0.2, 30
    ending, _ = await ran(graph(agent("a")), agents, seconds=0.05)
    assert ending.state is WorkflowState.COMPLETED
    after_a_crash, _ = await ran(graph(agent("a")), agents, seconds=-20)
    assert after_a_crash.state is WorkflowState.COMPLETED
    over, _ = await ran(graph(agent("a")), agents, seconds=-40)
    assert (over.state, over.error) == (WorkflowState.OVER_BUDGET, "max_seconds was met")


async def test_an_agent_that_fails_fails_the_run_and_ends_the_others() -> None:
    agents = Echo()
    agents.stop = StopReason.REFUSED
    ending, told = await ran(graph(agent("a"), agent("b", "x", "a")), agents)
    assert (ending.state, ending.error) == (WorkflowState.FAILED, "a: its agent's run run-a:0 ended by REFUSED")
    assert [(node.id, node.state) for node in told] == [("a", NodeState.FAILED)]


async def test_an_agent_that_is_gone_fails_its_node() -> None:
    class Gone(Echo):
        async def answer(self, agent: str, message: str, *, key: str, max_tokens: int) -> Run:
            raise NotFound("agent", "ada")

    ending, _ = await ran(graph(agent("a")), Gone())
    assert ending.state is WorkflowState.FAILED
    assert "ada" in ending.error


async def test_a_template_that_fails_fails_its_node() -> None:
    ending, _ = await ran(graph(Node("a", JoinWork("{{ 1 / 0 }}"))), Echo())
    assert (ending.state, ending.error) == (WorkflowState.FAILED, "a: its template failed: division by zero")


@pytest.mark.parametrize("template", ["{{ input.__class__.__mro__ }}", "{{ 'x' * 40000 }}"])
async def test_a_template_reaches_nothing_and_makes_no_more_than_it_may(template: str) -> None:
    ending, _ = await ran(graph(Node("a", JoinWork(template))), Echo())
    assert ending.state is WorkflowState.FAILED


@pytest.mark.parametrize(
    ("nodes", "field"),
    [
        ((agent("a", "x", "b"), agent("b", "x", "a")), "workflow.nodes"),
        ((agent("a", "x", "a"),), "workflow.nodes"),
        ((agent("a"), agent("a")), "workflow.nodes[1].id"),
        ((agent("a", "x", "nobody"),), "workflow.nodes[0].needs"),
        ((agent("a"), agent("b", when=Condition("a", "x"))), "workflow.nodes[1].when.node"),
        ((Node("a", MapWork("", "{{ item }}", "b", 1)),), "workflow.nodes[0].map.items_from"),
        ((agent("a", "{{ unknown }}"),), "workflow.nodes[0].agent.message"),
        ((agent("a", "{{ item }}"),), "workflow.nodes[0].agent.message"),
        ((agent("a"), agent("b", "{{ a }}")), "workflow.nodes[1].agent.message"),
        ((agent("a", "{{ broken"),), "workflow.nodes[0].agent.message"),
        ((Node("a", JoinWork("{% for %}")),), "workflow.nodes[0].join.output"),
        ((Node("a", LoopWork("", "{{ item }}", "x", 1)),), "workflow.nodes[0].loop.body.message"),
    ],
)
def test_a_graph_that_could_not_run_is_refused(nodes: tuple[Node, ...], field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check(graph(*nodes))
    assert refused.value.metadata["field"] == field


def test_a_cycle_is_shown() -> None:
    with pytest.raises(InvalidArgument, match=r"a -> b -> a|b -> a -> b"):
        check(graph(agent("a", "x", "b"), agent("b", "x", "a")))
