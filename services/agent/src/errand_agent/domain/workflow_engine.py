"""Runs a workflow's graph over agents: each node as soon as those it needs have ended."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from errand_common.errors import ErrandError

from errand_agent.domain.runs import Run, StopReason, Usage
from errand_agent.domain.templates import render
from errand_agent.domain.workflows import (
    AgentWork,
    JoinWork,
    LoopWork,
    MapWork,
    Node,
    NodeResult,
    NodeState,
    Workflow,
    WorkflowState,
    items_of,
    order,
)

# While people think it is asked how long they have, at most so often.
_LOOK_SECONDS = 1.0
# A run that ended so has an answer to go on with.
_ANSWERED = frozenset({StopReason.ANSWER, StopReason.MAX_STEPS, StopReason.ERROR_THRESHOLD})


class Agents(Protocol):
    """Agents that answer."""

    async def answer(self, agent: str, message: str, *, key: str, max_tokens: int) -> Run:
        """The ended run; the same key is the same run. Raises ErrandError."""
        ...

    async def paused_seconds(self) -> float:
        """How long people have thought, or think, about what these runs ask."""
        ...


class NodeFailedError(Exception):
    """A node gave nothing to go on with."""


class OverBudgetError(Exception):
    """The limit of tokens was met."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a workflow's run ended."""

    state: WorkflowState
    output: str = ""
    error: str = ""
    usage: Usage = field(default_factory=Usage)


@dataclass(slots=True)
class WorkflowEngine:
    """One run. Done again after a crash it finds the agents' runs by their keys."""

    workflow: Workflow
    input: str
    agents: Agents
    on_node: Callable[[NodeResult], Awaitable[None]]
    seconds_left: float
    _usage: Usage = field(default_factory=Usage)
    _outputs: dict[str, str] = field(default_factory=dict)

    async def run(self) -> Ending:
        """The ending; every run has one."""
        tasks: dict[str, asyncio.Task[NodeResult]] = {}
        for node in order(self.workflow):
            tasks[node.id] = asyncio.create_task(self._node(node, [tasks[need] for need in node.needs]))
        try:
            await self._in_time(asyncio.gather(*tasks.values()))
        except TimeoutError:
            return Ending(WorkflowState.OVER_BUDGET, error="max_seconds was met", usage=self._usage)
        except OverBudgetError as error:
            return Ending(WorkflowState.OVER_BUDGET, error=str(error), usage=self._usage)
        except NodeFailedError as error:
            return Ending(WorkflowState.FAILED, error=str(error), usage=self._usage)
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
        return Ending(WorkflowState.COMPLETED, self._outputs[self.workflow.nodes[-1].id], usage=self._usage)

    async def _in_time(self, work: asyncio.Future[list[NodeResult]]) -> None:
        """Raises TimeoutError when max_seconds are over; people's time to decide is not the workflow's."""
        until, wait = time.monotonic() + self.seconds_left, self.seconds_left
        while not (await asyncio.wait({work}, timeout=max(0.0, wait)))[0]:
            left = until + await self.agents.paused_seconds() - time.monotonic()
            if left <= 0:
                raise TimeoutError
            wait = max(left, _LOOK_SECONDS)
        await work

    async def _node(self, node: Node, needs: list[asyncio.Task[NodeResult]]) -> NodeResult:
        before = await asyncio.gather(*needs)
        if self._is_skipped(node, before):
            result = NodeResult(node.id, NodeState.SKIPPED)
        else:
            result = await self._done(node)
        self._outputs[node.id] = result.output
        await self.on_node(result)
        return result

    def _is_skipped(self, node: Node, before: list[NodeResult]) -> bool:
        if before and all(result.state is NodeState.SKIPPED for result in before):
            return True
        return node.when is not None and not node.when.holds(self._outputs[node.when.node])

    async def _done(self, node: Node) -> NodeResult:
        try:
            match node.work:
                case JoinWork(output):
                    return NodeResult(node.id, NodeState.DONE, render(output, self._values()))
                case AgentWork(agent, message):
                    run = await self._answer(node, agent, render(message, self._values()), "0")
                    return NodeResult(node.id, NodeState.DONE, run.answer, (run.id,))
                case MapWork():
                    return await self._mapped(node, node.work)
                case LoopWork():
                    return await self._looped(node, node.work)
        except (ValueError, ErrandError) as error:
            await self._failed(node, str(error))
            raise NodeFailedError(f"{node.id}: {error}") from error
        except NodeFailedError as error:
            await self._failed(node, str(error))
            raise

    async def _failed(self, node: Node, why: str) -> None:
        await self.on_node(NodeResult(node.id, NodeState.FAILED, why))

    def _values(self, **more: object) -> dict[str, object]:
        return {"input": self.input, **self._outputs, **more}

    async def _mapped(self, node: Node, work: MapWork) -> NodeResult:
        items = items_of(self._outputs[work.items_from], work.max_items)
        messages = [render(work.message, self._values(item=item)) for item in items]
        answers = (self._answer(node, work.agent, text, str(index)) for index, text in enumerate(messages))
        runs = await asyncio.gather(*answers)
        output = json.dumps([run.answer for run in runs], ensure_ascii=False)
        return NodeResult(node.id, NodeState.DONE, output, tuple(run.id for run in runs))

    async def _looped(self, node: Node, work: LoopWork) -> NodeResult:
        previous, run_ids = "", []
        for number in range(1, work.max_rounds + 1):
            message = render(work.message, self._values(previous=previous, round=number))
            run = await self._answer(node, work.agent, message, str(number))
            previous = run.answer
            run_ids.append(run.id)
            if work.until_contains.lower() in previous.lower():
                break
        return NodeResult(node.id, NodeState.DONE, previous, tuple(run_ids))

    async def _answer(self, node: Node, agent: str, message: str, part: str) -> Run:
        """An agent's run within what is left of the budget."""
        left = self.workflow.max_tokens - self._usage.total
        if left <= 0:
            raise OverBudgetError("max_tokens was met")
        run = await self.agents.answer(agent, message, key=f"{node.id}:{part}", max_tokens=left)
        self._usage += run.usage
        if run.stop_reason is StopReason.MAX_TOKENS and self._usage.total >= self.workflow.max_tokens:
            raise OverBudgetError("max_tokens was met")
        if run.stop_reason not in _ANSWERED:
            ended = run.stop_reason.value if run.stop_reason else "nothing"
            raise NodeFailedError(f"{node.id}: its agent's run {run.id} ended by {ended}")
        return run
