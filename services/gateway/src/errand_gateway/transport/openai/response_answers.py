"""Answers of OpenAI's Responses API, whole and as events."""

import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

import orjson

from errand_gateway.domain import generation as g
from errand_gateway.domain.resources import Citation, JsonObject, Run, RunEvent, RunState, StopReason, TextDelta, Usage
from errand_gateway.transport.context import RequestContext
from errand_gateway.transport.openai.answers import errand_extra, finish_of_run, finish_of_turn, note_turn
from errand_gateway.transport.openai.response_bodies import ResponseRequest
from errand_gateway.transport.run_events import note_event

_FAILED: Final = frozenset({StopReason.UNAVAILABLE, StopReason.INTERNAL, StopReason.INCOMPATIBLE})
Event = Mapping[str, Any]


def new_response_id() -> str:
    """An id of a response."""
    return f"resp_{secrets.token_hex(16)}"


def skeleton(body: ResponseRequest, response_id: str, status: str) -> JsonObject:
    """A response without output."""
    tools = [{"strict": None, **tool.model_dump()} for tool in body.tools or ()]
    choice = body.tool_choice
    return {
        "id": response_id,
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "background": bool(body.background),
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "model": body.model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "store": body.store is not False,
        "temperature": body.temperature or 0.0,
        "text": body.text.model_dump(by_alias=True, exclude_none=True) if body.text else {"format": {"type": "text"}},
        "tool_choice": choice.model_dump() if choice is not None and not isinstance(choice, str) else choice or "auto",
        "tools": tools,
        "top_p": body.top_p or 1.0,
        "truncation": "disabled",
        "usage": None,
    }


def of_turn(base: JsonObject, turn: g.Turn, output: Sequence[JsonObject]) -> JsonObject:
    """The final response of a model's turn."""
    return _final(base, output, turn.usage, cut=finish_of_turn(turn) == "length")


def of_run(base: JsonObject, run: Run) -> JsonObject:
    """The response of a run, wherever it stands."""
    # The answer is stored too, as plain JSON.
    extra = orjson.loads(orjson.dumps(errand_extra(run)))
    if run.state is not RunState.ENDED:
        status = "queued" if run.state is RunState.QUEUED else "in_progress"
        return {**base, "status": status, **extra}
    if run.stop_reason in _FAILED:
        error = {"code": "server_error", "message": "the run failed on our side; try again"}
        return {**base, "status": "failed", "error": error, **extra}
    if run.stop_reason is StopReason.CANCELLED:
        return {**base, "status": "cancelled", **extra}
    output = [message_item(run.answer, run.citations)] if run.answer else []
    return {**_final(base, output, run.usage, cut=finish_of_run(run) == "length"), **extra}


def _final(base: JsonObject, output: Sequence[JsonObject], usage: Usage, *, cut: bool) -> JsonObject:
    return {
        **base,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": list(output),
        "usage": {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        },
    }


def message_item(text: str, citations: Sequence[Citation] = (), *, item_id: str = "") -> JsonObject:
    """The answer as an output item; what it points to as file citations."""
    return {
        "id": item_id or f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [_text_part(text, citations)],
    }


def _text_part(text: str, citations: Sequence[Citation] = ()) -> JsonObject:
    annotations = [
        {
            "type": "file_citation",
            "file_id": citation.document_id,
            "filename": citation.title,
            "index": max(0, text.find(f"[{citation.number}]")),
        }
        for citation in citations
    ]
    return {"type": "output_text", "text": text, "annotations": annotations, "logprobs": []}


def call_item(call: g.Call) -> JsonObject:
    """A call as an output item."""
    return {
        "id": f"fc_{secrets.token_hex(12)}",
        "type": "function_call",
        "call_id": f"call_{secrets.token_hex(12)}",
        "name": call.name,
        "arguments": call.arguments_json,
        "status": "completed",
    }


def turn_output(turn: g.Turn) -> list[JsonObject]:
    """The output items of a model's turn."""
    text = [message_item(turn.text)] if turn.text or not turn.calls else []
    return [*text, *(call_item(call) for call in turn.calls)]


class EventStream:
    """Numbers the events of one response; `final` is the response once it is complete."""

    def __init__(self, base: JsonObject) -> None:
        self._base = base
        self._number = -1
        self._output: list[JsonObject] = []
        self._message = ""
        self._text = ""
        self.final: JsonObject | None = None

    def _event(self, kind: str, **fields: Any) -> Event:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **fields}

    def begin(self) -> list[Event]:
        """The first events."""
        return [
            self._event("response.created", response=self._base),
            self._event("response.in_progress", response=self._base),
        ]

    def text(self, delta: str) -> list[Event]:
        """A piece of text, with what announces the first."""
        events: list[Event] = []
        if not self._message:
            self._message = f"msg_{secrets.token_hex(12)}"
            item = {**message_item("", item_id=self._message), "status": "in_progress", "content": []}
            events.append(self._event("response.output_item.added", output_index=self._index, item=item))
            events.append(self._event("response.content_part.added", **self._place, part=_text_part("")))
        self._text += delta
        return [*events, self._event("response.output_text.delta", **self._place, delta=delta, logprobs=[])]

    def end_text(self, citations: Sequence[Citation] = ()) -> list[Event]:
        """The end of the text, if there was any."""
        if not self._message:
            return []
        part = _text_part(self._text, citations)
        item = message_item(self._text, citations, item_id=self._message)
        events = [
            self._event("response.output_text.done", **self._place, text=self._text, logprobs=[]),
            self._event("response.content_part.done", **self._place, part=part),
            self._event("response.output_item.done", output_index=self._index, item=item),
        ]
        self._output.append(item)
        self._message = self._text = ""
        return events

    def call(self, call: g.Call) -> list[Event]:
        """A call, whole."""
        item = call_item(call)
        place = {"output_index": self._index, "item_id": item["id"]}
        added = {**item, "arguments": "", "status": "in_progress"}
        arguments = {"arguments": call.arguments_json, "name": call.name}
        events = [
            self._event("response.output_item.added", output_index=self._index, item=added),
            self._event("response.function_call_arguments.delta", **place, delta=call.arguments_json),
            self._event("response.function_call_arguments.done", **place, **arguments),
            self._event("response.output_item.done", output_index=self._index, item=item),
        ]
        self._output.append(item)
        return events

    def end_turn(self, turn: g.Turn) -> list[Event]:
        """The last events of a model's turn."""
        events = self.end_text()
        return [*events, self._last(of_turn(self._base, turn, self._output))]

    def end_run(self, run: Run) -> list[Event]:
        """The last events of a run."""
        # Raises when the run failed, so that the stream ends with an error.
        finish_of_run(run)
        events = self.text(run.answer) if run.answer and not self._message else []
        events += self.end_text(run.citations)
        return [*events, self._last({**of_run(self._base, run), "output": self._output})]

    def _last(self, final: JsonObject) -> Event:
        self.final = final
        status = {"incomplete": "incomplete", "cancelled": "failed"}.get(final["status"], "completed")
        return self._event(f"response.{status}", response=final)

    @property
    def _index(self) -> int:
        return len(self._output)

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self._message, "output_index": self._index, "content_index": 0}


async def run_events(
    source: AsyncIterator[RunEvent], stream: EventStream, context: RequestContext
) -> AsyncIterator[Event]:
    """A run's events as the Responses API's."""
    async with aclosing(source) as events:  # type: ignore[type-var]
        async for item in events:
            note_event(item, context)
            match item.body:
                case TextDelta(text):
                    told = stream.text(text)
                case Run() as run:
                    told = stream.end_run(run)
                case _:
                    told = []
            for event in told:
                yield event


async def turn_events(
    source: AsyncIterator[str | g.Call | g.Turn], stream: EventStream, context: RequestContext
) -> AsyncIterator[Event]:
    """A model's turn as the Responses API's events."""
    async with aclosing(source) as events:  # type: ignore[type-var]
        async for item in events:
            if isinstance(item, str):
                context.deltas += 1
                told = stream.text(item)
            elif isinstance(item, g.Call):
                told = [*stream.end_text(), *stream.call(item)]
            else:
                note_turn(item, context)
                told = stream.end_turn(item)
            for event in told:
                yield event
