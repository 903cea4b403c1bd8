"""Agents that an agent calls: each call is a durable run of its own, found again after a crash."""

from __future__ import annotations

import json
from collections.abc import Sequence

from errand_common.errors import NotFound

from errand_agent.domain.agents import Agent
from errand_agent.domain.ports import ToolResult
from errand_agent.domain.runs import Budget, Run, StopReason
from errand_agent.use_cases.agents import AgentUseCases
from errand_agent.use_cases.runs import RunUseCases


class RunCallees:
    """Calls agents of the caller's tenant."""

    def __init__(self, agents: AgentUseCases, runs: RunUseCases) -> None:
        self._agents, self._runs = agents, runs

    async def named(self, names: Sequence[str]) -> list[Agent]:
        """Those of these agents that there are."""
        found = []
        for name in names:
            try:
                found.append(await self._agents.get(name))
            except NotFound:
                continue
        return found

    async def call(self, name: str, message: str, *, run_id: str, key: str, budget: Budget) -> ToolResult:
        """The agent's answer; raises NotFound, InvalidArgument."""
        called = await self._runs.start(
            agent=name,
            conversation_id="",
            message=message,
            idempotency_key=f"{run_id}:{key}",
            budget=budget,
            archived=True,
            parent_run_id=run_id,
        )
        return _result(await self._runs.ended_below(run_id, called))


def _result(run: Run) -> ToolResult:
    answered = run.stop_reason is StopReason.ANSWER
    told = {"answer": run.answer}
    if not answered:
        told["error"] = f"the agent stopped before it was done: {run.stop_reason.value if run.stop_reason else ''}"
    return ToolResult(
        json.dumps(told, ensure_ascii=False),
        failed=not answered,
        usage=run.usage,
        run_id=run.id,
        paused_seconds=run.paused_seconds,
    )
