"""OpenAI's chat request as what agents and models are asked."""

from collections.abc import Sequence
from typing import Any, Final

import orjson
from errand_common.errors import InvalidArgument, Unsupported

from errand_gateway.domain import generation as g
from errand_gateway.domain.resources import RunCommand
from errand_gateway.transport.openai.bodies import (
    NEUTRAL,
    ChatCompletionRequest,
    ChatMessage,
    NamedChoice,
    ResponseFormat,
)

AGENT_PREFIX: Final = "agent:"
_LONGEST_MESSAGE: Final = 32_768
_SYSTEM: Final = frozenset({"system", "developer"})
_NOT_FOR_AGENTS: Final = (
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "seed",
    "stop",
)


def refuse_unsupported(body: ChatCompletionRequest) -> None:
    """Raises Unsupported that names a parameter that is not offered, InvalidArgument an unknown one."""
    for name, value in (body.model_extra or {}).items():
        if name not in NEUTRAL:
            raise InvalidArgument(f"Unrecognized request argument supplied: {name}", field=name)
        if value is not None and value not in NEUTRAL[name]:
            raise _unsupported(name, f"{name}={orjson.dumps(value).decode()[:60]} is not supported here")


def _unsupported(name: str, message: str) -> Unsupported:
    return Unsupported(message, feature=name)


def run_command(body: ChatCompletionRequest, idempotency_key: str | None) -> RunCommand:
    """What an agent is asked: the last message, told with what was said before.

    With `metadata.conversation_id` the agent knows what was said before, and only the last message is
    sent. Raises Unsupported for parameters that the agent's definition decides.
    """
    for name in _NOT_FOR_AGENTS:
        if getattr(body, name) is not None:
            raise _unsupported(name, f"{name} is part of an agent's definition; leave it out with agent models")
    conversation_id = (body.metadata or {}).get("conversation_id", "")
    text = message_with_history(body.messages[-1:] if conversation_id else body.messages, "messages")
    return RunCommand(text, body.model.removeprefix(AGENT_PREFIX), conversation_id, idempotency_key or "")


def message_with_history(messages: Sequence[ChatMessage], field: str) -> str:
    """The last message, told with what was said before; raises InvalidArgument that names the field."""
    last = messages[-1]
    if last.role != "user" or not last.text().strip():
        raise InvalidArgument(
            "the last message must be the user's and say something", field=f"{field}.{len(messages) - 1}"
        )
    text = _with_history(messages)
    if len(text) > _LONGEST_MESSAGE:
        raise InvalidArgument(f"the messages have more than {_LONGEST_MESSAGE} characters together", field=field)
    return text


def _with_history(messages: Sequence[ChatMessage]) -> str:
    said = [f"{_speaker(message)}: {message.text()}" for message in messages[:-1] if message.text()]
    if not said:
        return messages[-1].text()
    return "\n".join([*said, "", messages[-1].text()])


def _speaker(message: ChatMessage) -> str:
    return "Instructions" if message.role in _SYSTEM else message.role.capitalize()


def generate_command(body: ChatCompletionRequest) -> g.GenerateCommand:
    """What a model is asked."""
    return g.GenerateCommand(
        model=body.model,
        instructions="\n".join(message.text() for message in body.messages if message.role in _SYSTEM),
        tools=[_tool(tool.function.name, tool.function) for tool in body.tools or ()],
        messages=_turns(body.messages),
        choice=_choice(body),
        sampling=g.Sampling(
            max_tokens=body.max_completion_tokens or body.max_tokens or 0,
            temperature=body.temperature or 0.0,
            top_p=body.top_p or 0.0,
            seed=body.seed,
            stop=[body.stop] if isinstance(body.stop, str) else body.stop or [],
        ),
        response_schema_json=_response_schema(body.response_format),
    )


def _tool(name: str, function: Any) -> g.ToolDeclaration:
    parameters = orjson.dumps(function.parameters).decode() if function.parameters else ""
    return g.ToolDeclaration(name, function.description, parameters)


def _choice(body: ChatCompletionRequest) -> g.ToolChoice:
    single = body.parallel_tool_calls is False
    if isinstance(body.tool_choice, NamedChoice):
        name = body.tool_choice.function.name
        if name not in {tool.function.name for tool in body.tools or ()}:
            raise InvalidArgument(f"tool_choice names {name!r}, which is not among the tools", field="tool_choice")
        return g.ToolChoice(g.ChoiceMode.NAMED, name, single)
    default = "auto" if body.tools else "none"
    mode = g.ChoiceMode(body.tool_choice or default)
    if mode is g.ChoiceMode.REQUIRED and not body.tools:
        raise InvalidArgument("tool_choice 'required' needs tools", field="tool_choice")
    return g.ToolChoice(mode, "", single)


def _response_schema(wanted: ResponseFormat | None) -> str:
    if wanted is None or wanted.type == "text":
        return ""
    if wanted.type == "json_object":
        return '{"type":"object"}'
    if wanted.json_schema is None:
        raise InvalidArgument("json_schema is missing", field="response_format.json_schema")
    return orjson.dumps(wanted.json_schema.schema_).decode()


def _turns(messages: Sequence[ChatMessage]) -> list[g.UserTurn | g.ModelTurn | g.ToolTurn]:
    names: dict[str, str] = {}
    turns: list[g.UserTurn | g.ModelTurn | g.ToolTurn] = []
    for index, message in enumerate(messages):
        if message.role == "user":
            turns.append(g.UserTurn(message.text()))
        elif message.role == "assistant":
            calls = message.tool_calls or []
            names |= {call.id: call.function.name for call in calls}
            made = [_made_call(call.function.name, call.function.arguments, index) for call in calls]
            turns.append(g.ModelTurn(message.text(), made))
        elif message.role == "tool":
            turns.append(g.ToolTurn(_called(names, message, index), _as_json(message.text())))
    if not turns:
        raise InvalidArgument("at least one message must be the user's", field="messages")
    return turns


def _made_call(name: str, arguments: str, index: int) -> g.Call:
    try:
        parsed = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        parsed = None
    if not isinstance(parsed, dict):
        raise InvalidArgument("arguments must be a JSON object as text", field=f"messages.{index}.tool_calls")
    return g.Call(name, arguments or "{}")


def _called(names: dict[str, str], message: ChatMessage, index: int) -> str:
    name = names.get(message.tool_call_id or "")
    if name is None:
        raise InvalidArgument(
            "tool_call_id must be the id of a call in an earlier message", field=f"messages.{index}.tool_call_id"
        )
    return name


def _as_json(text: str) -> str:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return orjson.dumps(text).decode()
    return text
