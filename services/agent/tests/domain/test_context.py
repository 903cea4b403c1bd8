"""What fits into the model's context, and what happens to what does not."""

from collections.abc import Sequence

import pytest
from errand_agent.domain.context import (
    ANSWER_RESERVE_TOKENS,
    BRIEF_TOKENS,
    Parts,
    Plan,
    plan,
    with_brief,
    write_brief,
)
from errand_agent.domain.ports import ModelTurn, Turn, UserTurn
from errand_agent.testing.ports import ScriptedModel, said
from errand_common.errors import Unavailable

HISTORY: tuple[Turn, ...] = tuple(turn for n in range(3) for turn in (UserTurn(f"q{n}"), ModelTurn(f"a{n}")))


async def planned(room: int, *, passages: int = 0, history: Sequence[Turn] = (), brief: str = "") -> Plan:
    """The plan when every text has 100 tokens, and so much is left beside instructions, question and reserve."""
    model = ScriptedModel([], tokens_per_text=100, context_tokens=200 + ANSWER_RESERVE_TOKENS + room)
    parts = Parts("Be kind.", (), "What?", ["text"] * passages, history, brief)
    return await plan(model, parts, model_name="")


async def test_all_of_it_is_shown_when_it_fits() -> None:
    assert await planned(1000, passages=3, history=HISTORY) == Plan(6, 3, 200 + ANSWER_RESERVE_TOKENS + 900, 100)


async def test_passages_leave_half_to_the_conversation() -> None:
    found = await planned(600, passages=6, history=HISTORY)
    assert (found.passages, found.turns, found.overflowed) == (3, 2, True)


async def test_passages_take_all_when_there_is_no_conversation() -> None:
    assert (await planned(600, passages=6)).passages == 6


async def test_a_question_and_its_answer_go_together() -> None:
    assert (await planned(350, history=HISTORY)).turns == 2


async def test_a_brief_has_its_room() -> None:
    without, with_one = await planned(400, history=HISTORY), await planned(400, history=HISTORY, brief="Was: 42.")
    assert (without.turns, with_one.turns) == (4, 0)
    assert with_one.remaining_tokens == 400 - BRIEF_TOKENS


async def test_no_room_at_all_leaves_the_question_alone() -> None:
    found = await planned(-500, passages=2, history=HISTORY)
    assert (found.turns, found.passages, found.remaining_tokens, found.overflowed) == (0, 0, 0, True)


async def test_a_brief_without_a_model_is_the_beginnings_of_the_turns() -> None:
    model = ScriptedModel([])
    turns = [UserTurn("My name\nis Ada. " + "word " * 100), ModelTurn("Hello Ada.")]
    brief, by_model = await write_brief(model, "User: hi", turns, model_name="")
    first, second, third = brief.splitlines()
    assert (first, third, by_model) == ("User: hi", "Assistant: Hello Ada.", False)
    assert second.startswith("User: My name is Ada. word")
    assert second.endswith(" …")
    assert model.asked == []


async def test_a_brief_never_outgrows_its_share() -> None:
    model, brief = ScriptedModel([]), ""
    for number in range(40):
        brief, _ = await write_brief(model, brief, [UserTurn(f"turn {number} " + "long " * 40)], model_name="")
    assert len(brief) <= 3 * BRIEF_TOKENS
    assert "turn 39" in brief, "the newest stay"
    assert "turn 0 " not in brief


async def test_a_model_writes_the_brief_where_one_is_named() -> None:
    model = ScriptedModel([said("Ada wants tea.")])
    assert await write_brief(model, "", [UserTurn("I am Ada.")], model_name="large") == ("Ada wants tea.", True)
    assert "User: I am Ada." in str(model.asked[0][0])


@pytest.mark.parametrize("answer", [Unavailable("inference"), said("")])
async def test_a_model_that_fails_leaves_the_beginnings(answer: object) -> None:
    model = ScriptedModel([answer])  # type: ignore[list-item]
    assert await write_brief(model, "", [UserTurn("I am Ada.")], model_name="large") == ("User: I am Ada.", False)


def test_a_brief_follows_the_instructions() -> None:
    assert with_brief("Be kind.", "") == "Be kind."
    assert with_brief("Be kind.", "User: hi") == "Be kind.\n\nEarlier in this conversation:\nUser: hi"
    assert with_brief("", "User: hi").startswith("Earlier")
