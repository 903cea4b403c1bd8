"""What a run's steps tell people."""

from __future__ import annotations

import json
from collections.abc import Sequence

from errand_agent.domain.ports import Call, Decision, Passage, Thought, ToolResult
from errand_agent.domain.runs import Step, StepKind


def away(summary: str, message: str) -> Step:
    """A service that the run goes on, or ends, without."""
    return Step(StepKind.ERROR, summary, result_json=json.dumps({"error": message}))


def found(passages: Sequence[Passage], duration_ms: float) -> Step:
    """Passages before the question."""
    titles = ", ".join(sorted({passage.title for passage in passages}))
    counted = f"found {len(passages)} passage{'s' if len(passages) > 1 else ''}: {titles}"
    return Step(StepKind.RETRIEVE, counted, duration_ms=duration_ms)


def decided(thought: Thought, duration_ms: float) -> Step:
    """A model's turn that calls tools."""
    said = "decided to call " + ", ".join(call.name for call in thought.calls)
    return Step(StepKind.THINK, said, duration_ms=duration_ms, usage=thought.usage)


def acted(call: Call) -> Step:
    """A call that begins."""
    return Step(StepKind.ACT, f"calls {call.name}", tool_name=call.name, arguments_json=call.arguments_json)


def observed(decision: Decision, result: ToolResult, duration_ms: float) -> Step:
    """What a call gave, or that nobody allowed it."""
    name = decision.call.name
    if decision.refusal:
        return Step(StepKind.OBSERVE, f"{name} was not allowed", name, result_json=result.result_json)
    return Step(
        StepKind.OBSERVE,
        f"{name} {'failed' if result.failed else 'answered'}",
        tool_name=name,
        result_json=result.result_json,
        duration_ms=duration_ms,
        usage=result.usage,
        run_id=result.run_id,
    )
