"""Every turn ends in text or in valid calls, whatever a model does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence

import pytest
from errand_common.errors import DeadlineExceeded
from errand_inference.domain.chat import PromptInput, ToolCall, ToolDeclaration, UserMessage
from errand_inference.domain.dispatch import Dispatcher
from errand_inference.domain.engine import Capability, Delta, EngineRequest, Finish
from errand_inference.domain.generation import (
    FinishReason,
    Generation,
    GenerationRequest,
    GenerationResult,
    TextDelta,
)
from errand_inference.domain.grammar import ToolChoice
from errand_inference.metrics import PrometheusObserver

WEATHER = '{"type":"object","properties":{"city":{"type":"string","pattern":"^[A-Z]"}},"required":["city"]}'
TOOL = ToolDeclaration(
    "weather", "", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
)
LOOP = ["<start_function_call>call:weather{city:<escape>", *["no, "] * 400]
GOOD = ["<start_function_call>", "call:weather{city:<escape>Oslo<escape>}", "<end_function_call>"]


class Replies:
    """An engine that gives one reply after the other, a piece a token, and keeps what it was asked."""

    name, precision, context_tokens, is_alive = "replies", "none", 4096, True
    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, *replies: Sequence[str], seconds: float = 0.0) -> None:
        self._replies, self._seconds = list(replies), seconds
        self.asked: list[EngineRequest] = []
        self.generated = 0

    async def generate(self, request: EngineRequest) -> AsyncGenerator[Delta, None]:
        self.asked.append(request)
        pieces = self._replies.pop(0)
        for position, piece in enumerate(pieces, start=1):
            await asyncio.sleep(self._seconds)
            self.generated += 1
            finish = Finish.LENGTH if position >= request.max_tokens else None
            yield Delta(piece, 1, Finish.STOP if position == len(pieces) else finish, 10)
            if finish:
                return

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text) for text in texts]

    async def close(self) -> None: ...


def asking(**fields: object) -> GenerationRequest:
    prompt = PromptInput((UserMessage("Weather?"),), (TOOL,))
    return GenerationRequest(prompt, {"weather": WEATHER}, **fields)  # type: ignore[arg-type]


async def answered(
    engine: Replies, request: GenerationRequest
) -> tuple[list[TextDelta | ToolCall], GenerationResult, Dispatcher]:
    dispatcher = Dispatcher(engine, slots=1, queue_capacity=4)
    events = [event async for event in Generation(PrometheusObserver()).stream(request, dispatcher)]
    result = events.pop()
    assert isinstance(result, GenerationResult)
    return [event for event in events if not isinstance(event, GenerationResult)], result, dispatcher


async def test_a_loop_is_left_early_and_the_turn_is_drawn_again() -> None:
    engine = Replies(LOOP, GOOD)
    events, result, dispatcher = await answered(engine, asking())
    assert result.calls == (ToolCall("weather", {"city": "Oslo"}),)
    assert events == list(result.calls)
    assert result.finish is FinishReason.TOOL_CALLS
    assert engine.generated < 60
    assert result.completion_tokens == engine.generated
    assert (result.prompt_tokens, result.attempts) == (20, 2)
    assert [asked.temperature > 0 for asked in engine.asked] == [False, True]
    assert engine.asked[0].grammar is not engine.asked[1].grammar
    assert dispatcher.scheduler.running == 0


async def test_arguments_that_break_the_schema_are_asked_for_again() -> None:
    bad = ["<start_function_call>call:weather{city:<escape>oslo<escape>}<end_function_call>"]
    _, result, _ = await answered(Replies(bad, GOOD), asking())
    assert [call.arguments for call in result.calls] == [{"city": "Oslo"}]
    assert result.rejected_calls == 1


async def test_after_two_failures_the_turn_is_text() -> None:
    engine = Replies(LOOP, LOOP, ["I could ", "not do it."])
    events, result, _ = await answered(engine, asking())
    assert (result.text, result.calls, result.finish) == ("I could not do it.", (), FinishReason.STOP)
    assert events == [TextDelta("I could "), TextDelta("not do it.")]


async def test_a_call_that_must_be_made_is_never_replaced_by_text() -> None:
    engine = Replies(LOOP, LOOP, GOOD)
    _, result, _ = await answered(engine, asking(choice=ToolChoice.REQUIRED))
    assert len(result.calls) == 1


async def test_whole_calls_are_kept_when_a_later_one_is_cut_off() -> None:
    _, result, _ = await answered(Replies(GOOD + LOOP), asking())
    assert (len(result.calls), result.finish, result.attempts) == (1, FinishReason.TOOL_CALLS, 1)


@pytest.mark.parametrize(
    "first", [["Hello ", "<escape>", "there."], GOOD, ["  ", "\n"]], ids=["text", "call", "nothing"]
)
async def test_where_nothing_can_be_called_a_grammar_binds_only_what_is_drawn_again(first: list[str]) -> None:
    engine = Replies(first, ["Good day."])
    request = GenerationRequest(PromptInput((UserMessage("Hello"),)))
    events, result, _ = await answered(engine, request)
    is_text = first[0] == "Hello "
    assert result.text == ("Hello \u2039escape>there." if is_text else "Good day.")
    assert "".join(event.text for event in events if isinstance(event, TextDelta)).strip() == result.text
    assert result.calls == ()
    assert [request.grammar is None for request in engine.asked] == ([True] if is_text else [True, False])


async def test_json_is_told_once_it_is_what_was_asked_for() -> None:
    schema = '{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}'
    events, result, _ = await answered(Replies(['{"n":', '"x"}'], ['{"n"', ":1}"]), asking(response_schema_json=schema))
    assert events == [TextDelta('{"n":1}')]
    assert (result.text, result.finish) == ('{"n":1}', FinishReason.STOP)


async def test_an_empty_turn_that_a_stop_text_ended_is_an_answer() -> None:
    _, result, _ = await answered(Replies([""]), asking(stop=("END",)))
    assert (result.text, result.attempts) == ("", 1)


@pytest.mark.parametrize("reply", [lambda: ["slow "] * 50, lambda: LOOP[:30]])
async def test_no_attempt_outlives_the_deadline(reply: Callable[[], list[str]]) -> None:
    began = time.monotonic()
    _, result, dispatcher = await answered(Replies(reply(), seconds=0.02), asking(deadline_seconds=0.2))
    assert result.finish is FinishReason.DEADLINE
    assert result.attempts == 1
    assert time.monotonic() - began < 5
    assert dispatcher.scheduler.running == 0


async def test_a_deadline_before_the_first_token_is_an_error() -> None:
    with pytest.raises(DeadlineExceeded):
        await answered(Replies(["late"], seconds=1.0), asking(deadline_seconds=0.05))
