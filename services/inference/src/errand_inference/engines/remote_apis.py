"""What OpenAI-compatible and Anthropic-compatible providers are sent, and how their streams are read."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from errand_inference.domain.chat import ModelMessage, PromptInput, ToolCall, ToolMessage, UserMessage
from errand_inference.domain.engine import ChatTurn, EngineRequest
from errand_inference.domain.grammar import ToolChoice

_ANTHROPIC_VERSION = "2023-06-01"


@dataclass(frozen=True, slots=True)
class Piece:
    """What one event of a stream brings. `call` numbers the call that name and arguments belong to."""

    text: str = ""
    call: int = -1
    name: str = ""
    arguments: str = ""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    ended: bool = False
    is_cut: bool = False
    failed: bool = False


class ProviderApi(Protocol):
    """One provider's way of speaking."""

    path: str

    def headers(self, key: str) -> dict[str, str]:
        """The headers that say who asks."""
        ...

    def body(self, model: str, turn: ChatTurn, request: EngineRequest, max_tokens: int) -> dict[str, Any]:
        """The JSON of a request."""
        ...

    def read(self, event: Mapping[str, Any]) -> Iterator[Piece]:
        """What an event of the stream says. Raises KeyError, TypeError or ValueError for one that is none."""
        ...


class OpenAiApi:
    """Chat completions, as OpenAI and most servers offer them."""

    path = "/chat/completions"

    def headers(self, key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {key}"} if key else {}

    def body(self, model: str, turn: ChatTurn, request: EngineRequest, max_tokens: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": model,
            "messages": list(_openai_messages(turn.prompt)),
            "max_tokens": max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.seed is not None:
            body["seed"] = request.seed
        if request.stop:
            body["stop"] = list(request.stop)
        if turn.prompt.tools and not turn.response_schema_json:
            body |= _openai_tools(turn)
        if turn.response_schema_json:
            schema = {"name": "answer", "schema": json.loads(turn.response_schema_json)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    def read(self, event: Mapping[str, Any]) -> Iterator[Piece]:
        if event.get("error"):
            yield Piece(failed=True)
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            if text := delta.get("content"):
                yield Piece(text=text)
            for call in delta.get("tool_calls") or ():
                function = call.get("function") or {}
                name, arguments = function.get("name") or "", function.get("arguments") or ""
                yield Piece(call=call.get("index", 0), name=name, arguments=arguments)
            if reason := choice.get("finish_reason"):
                yield Piece(ended=True, is_cut=reason == "length")
        if usage := event.get("usage"):
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
            yield Piece(
                prompt_tokens=usage["prompt_tokens"],
                cached_tokens=cached,
                completion_tokens=usage.get("completion_tokens", 0),
            )


class AnthropicApi:
    """Messages, as Anthropic offers them. It knows no response schema: the instructions tell it."""

    path = "/messages"

    def headers(self, key: str) -> dict[str, str]:
        return {"x-api-key": key, "anthropic-version": _ANTHROPIC_VERSION}

    def body(self, model: str, turn: ChatTurn, request: EngineRequest, max_tokens: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": model,
            "messages": list(_anthropic_messages(turn.prompt)),
            "max_tokens": max_tokens,
            # Its scale ends at 1.
            "temperature": min(1.0, request.temperature),
            "stream": True,
        }
        if request.top_p < 1:
            body["top_p"] = request.top_p
        instructions = turn.prompt.instructions
        if turn.response_schema_json:
            told = f"Answer with JSON of this JSON Schema and nothing else: {turn.response_schema_json}"
            instructions = f"{instructions}\n{told}".strip()
        if instructions:
            body["system"] = instructions
        if request.stop:
            body["stop_sequences"] = list(request.stop)
        if turn.prompt.tools and not turn.response_schema_json:
            body |= _anthropic_tools(turn)
        return body

    def read(self, event: Mapping[str, Any]) -> Iterator[Piece]:
        match event["type"]:
            case "message_start":
                usage = event["message"]["usage"]
                cached = usage.get("cache_read_input_tokens") or 0
                # Its input tokens are those that no cache saved.
                yield Piece(prompt_tokens=usage["input_tokens"] + cached, cached_tokens=cached)
            case "content_block_start" if event["content_block"]["type"] == "tool_use":
                yield Piece(call=event["index"], name=event["content_block"]["name"])
            case "content_block_delta" if event["delta"]["type"] == "text_delta":
                yield Piece(text=event["delta"]["text"])
            case "content_block_delta" if event["delta"]["type"] == "input_json_delta":
                yield Piece(call=event["index"], arguments=event["delta"]["partial_json"])
            case "message_delta":
                is_cut = event["delta"].get("stop_reason") == "max_tokens"
                yield Piece(completion_tokens=(event.get("usage") or {}).get("output_tokens"), is_cut=is_cut)
            case "message_stop":
                yield Piece(ended=True)
            case "error":
                yield Piece(failed=True)


APIS: Mapping[str, ProviderApi] = {"openai": OpenAiApi(), "anthropic": AnthropicApi()}


@dataclass(slots=True)
class _CallIds:
    """Numbers calls, and finds the call that a result belongs to: the oldest of its name without one."""

    _numbers: itertools.count[int]
    _open: list[tuple[str, str]]

    @classmethod
    def new(cls) -> _CallIds:
        return cls(itertools.count(), [])

    def of_call(self, name: str) -> str:
        id = f"call_{next(self._numbers)}"
        self._open.append((name, id))
        return id

    def of_result(self, name: str) -> str | None:
        found = next((entry for entry in self._open if entry[0] == name), None)
        if found:
            self._open.remove(found)
        return found[1] if found else None


def _answered(prompt: PromptInput) -> Iterator[tuple[UserMessage | ModelMessage, list[str]] | tuple[ToolMessage, str]]:
    """Messages with their calls' ids; a result whose call is not there gets one made for it."""
    ids = _CallIds.new()
    for message in prompt.messages:
        if isinstance(message, ToolMessage):
            id = ids.of_result(message.name)
            if id is None:
                made = ModelMessage(calls=(ToolCall(message.name),))
                yield made, [ids.of_call(message.name)]
                id = ids.of_result(message.name)
            yield message, id or ""
        else:
            calls = message.calls if isinstance(message, ModelMessage) else ()
            yield message, [ids.of_call(call.name) for call in calls]


def _openai_messages(prompt: PromptInput) -> Iterator[dict[str, Any]]:
    if prompt.instructions:
        yield {"role": "system", "content": prompt.instructions}
    for message, ids in _answered(prompt):
        match message:
            case UserMessage(text):
                yield {"role": "user", "content": text}
            case ToolMessage(_, result):
                yield {"role": "tool", "tool_call_id": ids, "content": json.dumps(result, ensure_ascii=False)}
            case ModelMessage(text, calls):
                made = [
                    {"id": id, "type": "function", "function": {"name": call.name, "arguments": _arguments(call)}}
                    for id, call in zip(ids, calls, strict=True)
                ]
                yield {"role": "assistant", "content": text, **({"tool_calls": made} if made else {})}


def _arguments(call: ToolCall) -> str:
    return json.dumps(dict(call.arguments), ensure_ascii=False)


def _openai_tools(turn: ChatTurn) -> dict[str, Any]:
    tools = [
        {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.parameters}}
        for t in turn.prompt.tools
    ]
    choice: Any = turn.choice.value
    if turn.only_tool and turn.choice is ToolChoice.REQUIRED:
        choice = {"type": "function", "function": {"name": turn.only_tool}}
    return {"tools": tools, "tool_choice": choice, **({"parallel_tool_calls": False} if turn.single_call else {})}


def _anthropic_messages(prompt: PromptInput) -> Iterator[dict[str, Any]]:
    for message, ids in _answered(prompt):
        match message:
            case UserMessage(text):
                yield {"role": "user", "content": text}
            case ToolMessage(_, result):
                content = json.dumps(result, ensure_ascii=False)
                block = {"type": "tool_result", "tool_use_id": ids, "content": content}
                yield {"role": "user", "content": [block]}
            case ModelMessage(text, calls):
                blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
                blocks += [
                    {"type": "tool_use", "id": id, "name": call.name, "input": dict(call.arguments)}
                    for id, call in zip(ids, calls, strict=True)
                ]
                yield {"role": "assistant", "content": blocks}


def _anthropic_tools(turn: ChatTurn) -> dict[str, Any]:
    tools = [
        {"name": t.name, "description": t.description, "input_schema": {"type": "object", **t.parameters}}
        for t in turn.prompt.tools
    ]
    kinds = {ToolChoice.AUTO: "auto", ToolChoice.NONE: "none", ToolChoice.REQUIRED: "any"}
    choice: dict[str, Any] = {"type": kinds[turn.choice]}
    if turn.only_tool and turn.choice is ToolChoice.REQUIRED:
        choice = {"type": "tool", "name": turn.only_tool}
    if turn.single_call and turn.choice is not ToolChoice.NONE:
        choice["disable_parallel_tool_use"] = True
    return {"tools": tools, "tool_choice": choice}
