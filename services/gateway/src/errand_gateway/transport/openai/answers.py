"""Answers in OpenAI's format."""

import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Final

from errand_common.errors import Internal, Unavailable

from errand_gateway.domain import generation as g
from errand_gateway.domain.resources import Run, RunEvent, RunStarted, StopReason, TextDelta, Usage
from errand_gateway.transport.context import RequestContext
from errand_gateway.transport.run_events import note_event

_FINISH: Final[dict[g.FinishReason, str]] = {
    g.FinishReason.STOP: "stop",
    g.FinishReason.TOOL_CALLS: "tool_calls",
    g.FinishReason.LENGTH: "length",
    g.FinishReason.DEADLINE: "length",
    g.FinishReason.CANCELLED: "stop",
}
_CUT_SHORT: Final = frozenset({StopReason.MAX_STEPS, StopReason.MAX_TOKENS, StopReason.MAX_COST, StopReason.DEADLINE})


class Completion:
    """One completion's identity, and its whole and chunked forms."""

    def __init__(self, model: str, *, include_usage: bool = False) -> None:
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._model = model
        self._include_usage = include_usage

    def whole(
        self, text: str, calls: Sequence[g.Call], finish_reason: str, usage: Usage, **extra: Any
    ) -> dict[str, Any]:
        """The answer of a request that does not stream."""
        message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else "")}
        message["refusal"] = None
        if calls:
            message["tool_calls"] = [tool_call(call) for call in calls]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage_body(usage), **extra}

    def chunk(self, delta: dict[str, Any], finish_reason: str | None = None, **extra: Any) -> dict[str, Any]:
        """A piece of a streamed answer."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        body = {**self._head("chat.completion.chunk"), "choices": [choice], **extra}
        return body | {"usage": None} if self._include_usage else body

    def last(self, usage: Usage) -> list[dict[str, Any]]:
        """The usage chunk, when it is asked for."""
        if not self._include_usage:
            return []
        return [{**self._head("chat.completion.chunk"), "choices": [], "usage": usage_body(usage)}]

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": None,
        }


def tool_call(call: g.Call) -> dict[str, Any]:
    """A call with an id of its own."""
    return {
        "id": f"call_{secrets.token_hex(12)}",
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments_json},
    }


def usage_body(usage: Usage) -> dict[str, Any]:
    """Token counts."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def finish_of_turn(turn: g.Turn) -> str:
    """OpenAI's finish reason of a model's turn."""
    return _FINISH[turn.finish_reason]


def finish_of_run(run: Run) -> str:
    """OpenAI's finish reason of a run; raises when the run failed, so that clients try again."""
    if run.stop_reason is StopReason.UNAVAILABLE:
        raise Unavailable("agent", "a service that the run needs is away; try again")
    if run.stop_reason in (StopReason.INTERNAL, StopReason.INCOMPATIBLE):
        raise Internal("the run failed on our side")
    return "length" if run.stop_reason in _CUT_SHORT else "stop"


def errand_extra(run: Run) -> dict[str, Any]:
    """What a run has beside OpenAI's fields."""
    return {
        "errand": {
            "run_id": run.id,
            "conversation_id": run.conversation_id,
            "stop_reason": run.stop_reason,
            "steps": run.steps,
            "citations": run.citations,
        }
    }


async def run_chunks(
    events: AsyncIterator[RunEvent], completion: Completion, context: RequestContext
) -> AsyncIterator[dict[str, Any]]:
    """A run's events as chunks."""
    streamed = False
    async with aclosing(events) as open_events:  # type: ignore[type-var]
        async for item in open_events:
            note_event(item, context)
            match item.body:
                case RunStarted():
                    yield completion.chunk({"role": "assistant", "content": ""})
                case TextDelta(text):
                    streamed = True
                    yield completion.chunk({"content": text})
                case Run() as run:
                    finish = finish_of_run(run)
                    if run.answer and not streamed:
                        yield completion.chunk({"content": run.answer})
                    yield completion.chunk({}, finish, **errand_extra(run))
                    for last in completion.last(run.usage):
                        yield last


async def turn_chunks(
    events: AsyncIterator[str | g.Call | g.Turn], completion: Completion, context: RequestContext
) -> AsyncIterator[dict[str, Any]]:
    """A model's turn as chunks."""
    calls = 0
    first: dict[str, Any] = {"role": "assistant"}
    async with aclosing(events) as open_events:  # type: ignore[type-var]
        async for item in open_events:
            if isinstance(item, str):
                context.deltas += 1
                yield completion.chunk({**first, "content": item})
                first = {}
            elif isinstance(item, g.Call):
                yield completion.chunk({**first, "tool_calls": [{"index": calls, **tool_call(item)}]})
                first, calls = {}, calls + 1
            else:
                note_turn(item, context)
                yield completion.chunk(first, finish_of_turn(item))
                for last in completion.last(item.usage):
                    yield last


def note_turn(turn: g.Turn, context: RequestContext) -> None:
    """Keeps what the usage row of the request needs."""
    context.model = turn.model
    context.prompt_tokens = turn.usage.prompt_tokens
    context.completion_tokens = turn.usage.completion_tokens
    context.cached_tokens = turn.usage.cached_tokens
    context.stop_reason = turn.finish_reason.value
