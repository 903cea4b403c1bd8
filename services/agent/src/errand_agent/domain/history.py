"""How much of a conversation fits into the model's context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from errand_agent.domain.ports import Model, ModelTurn, ToolSpec, ToolTurn, Turn, UserTurn

if TYPE_CHECKING:
    from errand_agent.domain.loop import Task

# Kept free for calls, results and the answer.
ANSWER_RESERVE_TOKENS = 1024
# A small model follows a short history better than a long one.
MOST_TURNS = 6


def _text(turn: Turn) -> str:
    match turn:
        case UserTurn(text):
            return text
        case ModelTurn(text, calls):
            return text + "".join(call.name + call.arguments_json for call in calls)
        case ToolTurn(name, result_json):
            return name + result_json


async def fit_history(model: Model, task: Task, question: UserTurn, tools: Sequence[ToolSpec]) -> int:
    """How many of the newest turns fit beside instructions, declarations and the question.

    A pair of question and answer is kept or left out as a whole. Raises what counting raises.
    """
    recent = task.history[-MOST_TURNS:]
    declared = "".join(tool.name + tool.description + tool.parameters_json for tool in tools)
    fixed = [task.agent.instructions + declared, question.text]
    counts, context_tokens = await model.count_tokens([*fixed, *map(_text, recent)], model=task.agent.model)
    left = context_tokens - ANSWER_RESERVE_TOKENS - sum(counts[: len(fixed)])
    kept = 0
    sizes = counts[len(fixed) :]
    while kept + 2 <= len(recent) and sum(sizes[len(sizes) - kept - 2 :]) <= left:
        kept += 2
    return kept
