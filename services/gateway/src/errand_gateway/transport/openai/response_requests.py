"""OpenAI's Responses request, told as the chat request that means the same."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from errand_common.errors import InvalidArgument, Unsupported

from errand_gateway.domain.resources import JsonObject, RunCommand
from errand_gateway.transport.openai.bodies import ChatCompletionRequest, ChatMessage
from errand_gateway.transport.openai.requests import AGENT_PREFIX, message_with_history
from errand_gateway.transport.openai.response_bodies import (
    NEUTRAL,
    CallItem,
    CallOutputItem,
    ConversationReference,
    InputMessage,
    InputText,
    Item,
    ResponseRequest,
    ResponseTool,
    ResponseToolChoice,
    TextFormat,
)

_NOT_FOR_AGENTS = ("tools", "tool_choice", "text", "max_output_tokens", "temperature", "top_p")
_NOT_FOR_MODELS = ("background", "conversation")
_MOST_MESSAGES = 512


def refuse_unsupported(body: ResponseRequest) -> None:
    """Raises Unsupported that names a parameter that is not offered, InvalidArgument an unknown one."""
    for name, value in (body.model_extra or {}).items():
        if name not in NEUTRAL:
            raise InvalidArgument(f"Unrecognized request argument supplied: {name}", field=name)
        if value is not None and value not in NEUTRAL[name]:
            raise Unsupported(f"{name}={orjson.dumps(value).decode()[:60]} is not supported here", feature=name)
    for_agent = body.model.startswith(AGENT_PREFIX)
    for name in _NOT_FOR_AGENTS if for_agent else _NOT_FOR_MODELS:
        if getattr(body, name) not in (None, False, []):
            where = "part of an agent's definition" if for_agent else "offered with agent models only"
            raise Unsupported(f"{name} is {where}; leave it out with {body.model}", feature=name)
    if body.conversation is not None and body.previous_response_id is not None:
        raise InvalidArgument("send conversation or previous_response_id, not both", field="conversation")
    if body.background and body.stream:
        raise Unsupported("a background response is not streamed; get it until its status is final", feature="stream")


def input_items(body: ResponseRequest) -> list[JsonObject]:
    """The request's input as items with ids."""
    if isinstance(body.input, str):
        return [_item(InputMessage(role="user", content=body.input))]
    return [_item(item) for item in body.input]


def _item(item: Item) -> JsonObject:
    fields = item.model_dump(exclude_none=True)
    prefix = {"message": "msg", "function_call": "fc", "function_call_output": "fco"}[item.type]
    if isinstance(item, InputMessage) and isinstance(item.content, str):
        kind = "output_text" if item.role == "assistant" else "input_text"
        fields["content"] = [{"type": kind, "text": item.content}]
    return {"status": "completed", **fields, "id": item.id or f"{prefix}_{secrets.token_hex(12)}"}


def chat_request(body: ResponseRequest, items: Sequence[Mapping[str, Any]]) -> ChatCompletionRequest:
    """The chat request that asks the same of a model, after all that was said before."""
    messages = _messages(body, items)
    if len(messages) > _MOST_MESSAGES:
        raise InvalidArgument(f"more than {_MOST_MESSAGES} items with those before; begin anew", field="input")
    fields: dict[str, Any] = {
        "model": body.model,
        "messages": messages,
        "tools": [_tool(tool) for tool in body.tools] if body.tools else None,
        "tool_choice": _choice(body.tool_choice),
        "parallel_tool_calls": body.parallel_tool_calls,
        "response_format": _format(body.text.format) if body.text and body.text.format else None,
        "max_completion_tokens": body.max_output_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
    }
    return ChatCompletionRequest.model_validate(fields)


def run_command(
    body: ResponseRequest, items: Sequence[Mapping[str, Any]], conversation_id: str, idempotency_key: str | None
) -> RunCommand:
    """What an agent is asked; what was said before is in the conversation, when there is one."""
    messages = [ChatMessage.model_validate(message) for message in _messages(body, items)]
    text = message_with_history(messages, "input")
    return RunCommand(text, body.model.removeprefix(AGENT_PREFIX), conversation_id, idempotency_key or "")


def conversation_of(body: ResponseRequest) -> str:
    """The conversation that the request names, or ''."""
    named = body.conversation
    return named.id if isinstance(named, ConversationReference) else named or ""


def _messages(body: ResponseRequest, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if body.instructions:
        messages.append({"role": "system", "content": body.instructions})
    for item in items:
        if item["type"] == "function_call":
            _add_call(messages, CallItem.model_validate(item))
        elif item["type"] == "function_call_output":
            output = CallOutputItem.model_validate(item)
            messages.append({"role": "tool", "tool_call_id": output.call_id, "content": _text(output.output)})
        else:
            message = InputMessage.model_validate(item)
            messages.append({"role": message.role, "content": _text(message.content)})
    return messages


def _add_call(messages: list[dict[str, Any]], item: CallItem) -> None:
    call = {
        "id": item.call_id,
        "type": "function",
        "function": {"name": item.name, "arguments": item.arguments},
    }
    # Calls made side by side are one turn of the model.
    if messages and "tool_calls" in messages[-1]:
        messages[-1]["tool_calls"].append(call)
    else:
        messages.append({"role": "assistant", "tool_calls": [call]})


def _text(content: str | list[InputText]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _tool(tool: ResponseTool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description or "", "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _choice(choice: str | ResponseToolChoice | None) -> Any:
    if isinstance(choice, ResponseToolChoice):
        return {"type": "function", "function": {"name": choice.name}}
    return choice


def _format(wanted: TextFormat) -> dict[str, Any]:
    if wanted.type != "json_schema":
        return {"type": wanted.type}
    if wanted.schema_ is None:
        raise InvalidArgument("schema is missing", field="text.format.schema")
    return {"type": "json_schema", "json_schema": {"name": wanted.name or "answer", "schema": wanted.schema_}}
