"""What of instructions, sources, conversation and question the model is shown: its context within a budget.

Instructions, declarations and the question are always there, and room for calls and the answer is kept.
What is left is shared by the retrieved passages (at most half of it, best first) and the conversation
(newest first). Turns that are not shown go into the conversation's running brief.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from errand_common.errors import ErrandError

from errand_agent.domain.ports import Model, ModelTurn, ToolSpec, ToolTurn, Turn, UserTurn

# Kept free for calls, results and the answer.
ANSWER_RESERVE_TOKENS = 1024
# The running brief's share.
BRIEF_TOKENS = 256
# A small model follows a short history better than a long one.
MOST_TURNS = 6
# Turns read for one run; those before them are in the brief already, or forgotten.
MOST_READ_TURNS = 40
# Of what is left beside instructions and question, passages take at most this share while there is history.
_PASSAGES_SHARE = 0.5
_CHARACTERS_PER_TOKEN = 3
_LONGEST_LINE = 160
_BRIEF_PROMPT = """Rewrite these notes of a conversation as a brief of at most 120 words.
Keep decisions, facts with their numbers and names, constraints, and what is still open. Add nothing.

{notes}"""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is shown: the newest turns, the best passages; and the tokens that takes.

    `overflowed` when something was left out for want of room.
    """

    turns: int
    passages: int
    used_tokens: int
    remaining_tokens: int
    overflowed: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """What asks for room in the context."""

    instructions: str
    tools: Sequence[ToolSpec]
    question: str
    passages: Sequence[str]
    history: Sequence[Turn]
    brief: str = ""


def _text(turn: Turn) -> str:
    match turn:
        case UserTurn(text):
            return text
        case ModelTurn(text, calls):
            return text + "".join(call.name + call.arguments_json for call in calls)
        case ToolTurn(name, result_json):
            return name + result_json


async def plan(model: Model, parts: Parts, *, model_name: str) -> Plan:
    """What fits, by the model's own tokenizer, counted in one call. Raises what counting raises.

    A pair of question and answer is kept or left out as a whole.
    """
    recent = parts.history[-MOST_TURNS:]
    declared = "".join(tool.name + tool.description + tool.parameters_json for tool in parts.tools)
    fixed = [parts.instructions + declared, parts.question]
    texts = [*fixed, *parts.passages, *map(_text, recent)]
    counts, context_tokens = await model.count_tokens(texts, model=model_name)
    passages, turns = counts[2 : 2 + len(parts.passages)], counts[2 + len(parts.passages) :]
    briefed = bool(parts.brief) or len(parts.history) > len(recent)
    taken = sum(counts[:2]) + ANSWER_RESERVE_TOKENS + (BRIEF_TOKENS if briefed else 0)
    room = max(0, context_tokens - taken)
    shown = _fitting(passages, int(room * _PASSAGES_SHARE) if recent else room)
    left = room - sum(passages[:shown])
    kept = _fitting_pairs(turns, left)
    left -= sum(turns[len(turns) - kept :])
    overflowed = taken > context_tokens or shown < len(passages) or kept < len(turns) - len(turns) % 2
    return Plan(kept, shown, context_tokens - left, left, overflowed)


def _fitting(sizes: Sequence[int], room: int) -> int:
    """How many of the first fit."""
    count = 0
    while count < len(sizes) and sum(sizes[: count + 1]) <= room:
        count += 1
    return count


def _fitting_pairs(sizes: Sequence[int], room: int) -> int:
    """How many of the last fit, two by two."""
    count = 0
    while count + 2 <= len(sizes) and sum(sizes[len(sizes) - count - 2 :]) <= room:
        count += 2
    return count


def without_counts(parts: Parts) -> Plan:
    """The plan when nothing could be counted: the question with its sources, never without."""
    return Plan(0, len(parts.passages), 0, 0)


async def write_brief(model: Model, brief: str, turns: Sequence[Turn], *, model_name: str) -> tuple[str, bool]:
    """The brief with these turns in it, and whether a model wrote it.

    With no model named, or when it fails or says nothing, it is the beginnings of the turns.
    """
    notes = "\n".join(filter(None, [brief, *(_line(turn) for turn in turns)]))
    if model_name:
        try:
            thought = await model.think(
                [UserTurn(_BRIEF_PROMPT.format(notes=notes))],
                model=model_name,
                instructions="",
                tools=(),
                may_call=False,
                on_text=_unheard,
            )
        except ErrandError:
            return _newest(notes), False
        if thought.text.strip():
            return _newest(thought.text.strip()), True
    return _newest(notes), False


def _line(turn: Turn) -> str:
    said = " ".join(_text(turn).split())
    who = "User" if isinstance(turn, UserTurn) else "Assistant"
    return f"{who}: {said if len(said) <= _LONGEST_LINE else said[:_LONGEST_LINE].rsplit(' ', 1)[0] + ' …'}"


def _newest(notes: str) -> str:
    """The newest lines that fit into the brief's share."""
    limit = BRIEF_TOKENS * _CHARACTERS_PER_TOKEN
    kept: list[str] = []
    for line in reversed(notes.splitlines()):
        if sum(map(len, kept)) + len(kept) + len(line) > limit:
            break
        kept.insert(0, line)
    return "\n".join(kept) or notes[-limit:]


async def _unheard(_text: str) -> None:
    return


def with_brief(instructions: str, brief: str) -> str:
    """The instructions the model gets."""
    if not brief:
        return instructions
    return f"{instructions}\n\nEarlier in this conversation:\n{brief}".strip()
