"""Runs as lines that a trainer reads."""

import json

import pytest
from errand_agent.domain.agents import Agent
from errand_agent.domain.examples import AnsweredRun, Feedback, line_of, scrubbed
from errand_agent.domain.runs import Step, StepKind

STEPS = (
    Step(StepKind.THINK, "decided"),
    Step(StepKind.ACT, "calls", "calculator", '{"expression": "6*7"}'),
    Step(StepKind.ACT, "calls", "current_time", "{}"),
    Step(StepKind.OBSERVE, "answered", "calculator", result_json='{"result": 42}'),
    Step(StepKind.OBSERVE, "answered", "current_time", result_json='{"time": "12:00"}'),
    Step(StepKind.ANSWER, "It is 42."),
)
RUN = AnsweredRun("run_1", Agent("helper", instructions="Help.", model="m"), "What is 6*7?", "It is 42.", STEPS)


def test_parallel_calls_are_one_message_with_their_results_behind() -> None:
    example = json.loads(line_of(RUN))
    assert [message["role"] for message in example["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
    ]
    calls = example["messages"][2]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["calculator", "current_time"]
    assert [message["tool_call_id"] for message in example["messages"][3:5]] == [call["id"] for call in calls]
    assert (example["tools"], example["feedback"]) == (["calculator", "current_time"], None)


def test_a_correction_stands_in_place_of_the_answer() -> None:
    corrected = AnsweredRun("r", Agent("a"), "Q", "wrong", (), Feedback(helpful=False, correction="right"))
    example = json.loads(line_of(corrected))
    assert example["messages"] == [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "right"}]
    assert example["feedback"] == {"helpful": False, "corrected": True}
    assert corrected.is_approved
    assert not AnsweredRun("r", Agent("a"), "Q", "A", (), Feedback(helpful=False)).is_approved


@pytest.mark.parametrize(
    "secret",
    [
        "ada@example.org",
        "+49 30 1234 5678",
        "030/1234567",
        "4111 1111 1111 1111",
        "DE89 3704 0044 0532 0130 00",
        "078-05-1120",
        "sk-abcdefghijklmnopqrstuv",
    ],
)
def test_what_names_a_person_is_masked(secret: str) -> None:
    assert scrubbed(f"It is {secret} now.") == "It is *** now."
    run = AnsweredRun("r", Agent("a"), secret, secret, (Step(StepKind.ACT, "", "t", f'{{"x": "{secret}"}}'),))
    assert secret not in line_of(run)


@pytest.mark.parametrize("text", ["What is 123456 * 789?", "On 2026-11-21 at 13:05", "10,000.50 euros", "1990-2020"])
def test_other_numbers_stay(text: str) -> None:
    assert scrubbed(text) == text


def test_arguments_stay_json_where_a_number_is_masked() -> None:
    steps = (Step(StepKind.ACT, "", "pay", '{"card": 4111111111111111, "amount": 12.5, "to": ["ada@example.org"]}'),)
    call = json.loads(line_of(AnsweredRun("r", Agent("a"), "Q", "A", steps)))["messages"][1]["tool_calls"][0]
    assert json.loads(call["function"]["arguments"]) == {"card": "***", "amount": 12.5, "to": ["***"]}
