"""What steps gave, read back: a replay meets steps that another version of the service may have remembered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from errand_agent.domain.ports import Call, Decision, Passage, Thought, ToolResult, ToolSpec, UnreadableStep
from errand_agent.domain.runs import Usage


@contextmanager
def reading(step: str) -> Iterator[None]:
    """Raises UnreadableStep for a form that this version does not know."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableStep(step) from error


def tools(stored: Mapping[str, Any]) -> list[ToolSpec]:
    """The tools that the model is shown; raises UnreadableStep."""
    with reading("tools"):
        return [ToolSpec(**tool) for tool in stored["tools"]]


def passages(stored: Mapping[str, Any]) -> tuple[list[Passage], float]:
    """What was found, and the milliseconds it took; raises UnreadableStep."""
    with reading("retrieve"):
        found = [Passage(**passage) for passage in stored["passages"]]
        return found, float(stored.get("duration_ms", 0.0))


def context(stored: Mapping[str, Any]) -> tuple[int, int, str]:
    """How many turns and passages fit, and the brief of older turns; raises UnreadableStep."""
    with reading("context"):
        return int(stored["turns"]), int(stored["passages"]), str(stored["brief"])


def thought(stored: Mapping[str, Any]) -> tuple[Thought, float]:
    """What the model said or called, and the milliseconds it took; raises UnreadableStep."""
    with reading("think"):
        calls = tuple(Call(**call) for call in stored["calls"])
        said = Thought(stored["text"], calls, Usage(**stored["usage"]), stored["model"], stored["cut_off"])
        return said, float(stored.get("duration_ms", 0.0))


def results(stored: Mapping[str, Any]) -> tuple[list[ToolResult], list[float]]:
    """What calls gave, and the milliseconds each took; raises UnreadableStep."""
    with reading("act"):
        found = [ToolResult(**{**one, "usage": Usage(**one.get("usage", {}))}) for one in stored["results"]]
        return found, stored.get("durations_ms") or [0.0] * len(found)


def decisions(stored: Mapping[str, Any], asked: Mapping[int, Call]) -> tuple[dict[int, Decision], float]:
    """What people said to calls, and the seconds it took them; raises UnreadableStep."""
    with reading("decide"):
        decided = {
            index: _decision(call, stored["decided"][str(index)])
            for index, call in asked.items()
            if str(index) in stored["decided"]
        }
        return decided, float(stored["seconds"])


def _decision(call: Call, said: Mapping[str, str]) -> Decision:
    return Decision(Call(call.name, said["arguments_json"]), said["refusal"])
