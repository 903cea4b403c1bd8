"""FunctionGemma's prompt format: declarations, turns, calls and responses as text.

Source: Google, "FunctionGemma formatting and best practices". Everything that comes from outside
(instructions, descriptions, user text, arguments, tool results) is neutralised first, so that text
which spells a control token never becomes one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from errand_inference.domain.chat import (
    JsonValue,
    Message,
    ModelMessage,
    PromptInput,
    ToolCall,
    ToolDeclaration,
    ToolMessage,
    UserMessage,
)

BOS = "<bos>"
START_TURN = "<start_of_turn>"
END_TURN = "<end_of_turn>"
START_DECLARATION = "<start_function_declaration>"
END_DECLARATION = "<end_function_declaration>"
START_CALL = "<start_function_call>"
END_CALL = "<end_function_call>"
START_RESPONSE = "<start_function_response>"
END_RESPONSE = "<end_function_response>"
ESCAPE = "<escape>"

CONTROL_TOKENS = (
    START_TURN,
    END_TURN,
    START_DECLARATION,
    END_DECLARATION,
    START_CALL,
    END_CALL,
    START_RESPONSE,
    END_RESPONSE,
    ESCAPE,
)
_RESERVED_TOKENS = ("<bos>", "<eos>", "<pad>", "<unk>", "<mask>")
_CONTROL_PATTERN = re.compile(
    "|".join(re.escape(token) for token in (*CONTROL_TOKENS, *_RESERVED_TOKENS)), re.IGNORECASE
)

# The sentence that switches the model to tool use; the model was trained on exactly this text.
TOOL_MODE_SENTENCE = "You are a model that can do function calling with the following functions"

# A turn ends with either of these; a response marker means that the model waits for its tools.
STOP_TOKENS = (END_TURN, START_RESPONSE)


def neutralise(text: str) -> str:
    """Text in which no control token is spelled: its "<" becomes the look-alike U+2039 (single
    left-pointing angle quotation mark)."""
    return _CONTROL_PATTERN.sub(lambda match: "\u2039" + match.group()[1:], text)


def render_value(value: JsonValue) -> str:
    """A JSON value in the call format: strings between escape tokens, no quotes elsewhere."""
    if isinstance(value, str):
        return f"{ESCAPE}{neutralise(value)}{ESCAPE}"
    if isinstance(value, Mapping):
        return render_object(value)
    if isinstance(value, list | tuple):
        return "[" + ",".join(render_value(item) for item in value) + "]"
    return json.dumps(value)


def render_object(members: Mapping[str, JsonValue]) -> str:
    """An object with its keys in alphabetical order, as in every official sample."""
    return "{" + ",".join(f"{neutralise(key)}:{render_value(members[key])}" for key in sorted(members)) + "}"


def render_schema(schema: Mapping[str, JsonValue]) -> str:
    """A JSON Schema in the declaration format: known keywords only, types in upper case."""
    members = {
        "description": _text(schema.get("description")),
        "enum": _values(schema.get("enum")),
        "items": _schema(schema.get("items")),
        "properties": _properties(schema.get("properties")),
        "required": _values(schema.get("required")),
        "type": _type(schema.get("type")),
    }
    return "{" + ",".join(f"{key}:{text}" for key, text in members.items() if text) + "}"


def _text(value: JsonValue) -> str:
    return render_value(value) if isinstance(value, str) and value else ""


def _values(value: JsonValue) -> str:
    return render_value(value) if isinstance(value, list | tuple) and value else ""


def _schema(value: JsonValue) -> str:
    return render_schema(value) if isinstance(value, Mapping) else ""


def _properties(value: JsonValue) -> str:
    if not isinstance(value, Mapping) or not value:
        return ""
    schemas = {key: schema for key, schema in value.items() if isinstance(schema, Mapping)}
    return "{" + ",".join(f"{neutralise(key)}:{render_schema(schemas[key])}" for key in sorted(schemas)) + "}"


def _type(value: JsonValue) -> str:
    """The first type that is not null: the format knows one type a value."""
    names = value if isinstance(value, list | tuple) else (value,)
    named = [name for name in names if isinstance(name, str) and name != "null"]
    return render_value(named[0].upper()) if named else ""


def render_declaration(tool: ToolDeclaration) -> str:
    """A tool's declaration between its control tokens."""
    parameters = {"type": "object", **tool.parameters}
    body = f"description:{render_value(tool.description)},parameters:{render_schema(parameters)}"
    return f"{START_DECLARATION}declaration:{tool.name}{{{body}}}{END_DECLARATION}"


def render_call(call: ToolCall) -> str:
    """A call between its control tokens."""
    return f"{START_CALL}call:{call.name}{render_object(call.arguments)}{END_CALL}"


def render_response(message: ToolMessage) -> str:
    """A tool's response between its control tokens; a bare value becomes `{result:value}`."""
    result = message.result if isinstance(message.result, Mapping) else {"result": message.result}
    return f"{START_RESPONSE}response:{message.name}{render_object(result)}{END_RESPONSE}"


def render_prefix(instructions: str, tools: Iterable[ToolDeclaration]) -> str:
    """The part that all requests of one agent share: begin marker and developer turn."""
    declarations = "".join(render_declaration(tool) for tool in tools)
    said = f"{neutralise(instructions)}\n" if instructions and declarations else neutralise(instructions)
    sentence = f"{TOOL_MODE_SENTENCE}{declarations}" if declarations else ""
    if not (said or sentence):
        return BOS
    return f"{BOS}{START_TURN}developer\n{said}{sentence}{END_TURN}\n"


def render_messages(messages: Iterable[Message]) -> str:
    """The turns, ending in an open model turn. A tool's response continues the model's turn."""
    parts: list[str] = []
    model_turn_is_open = False
    for message in messages:
        if isinstance(message, UserMessage):
            if model_turn_is_open:
                parts.append(f"{END_TURN}\n")
            parts.append(f"{START_TURN}user\n{neutralise(message.text)}{END_TURN}\n")
            model_turn_is_open = False
            continue
        if not model_turn_is_open:
            parts.append(f"{START_TURN}model\n")
            model_turn_is_open = True
        parts.append(render_model_part(message))
    if not model_turn_is_open:
        parts.append(f"{START_TURN}model\n")
    return "".join(parts)


def render_model_part(message: ModelMessage | ToolMessage) -> str:
    """What a model turn holds of one message."""
    if isinstance(message, ToolMessage):
        return render_response(message)
    return neutralise(message.text) + "".join(render_call(call) for call in message.calls)


def render_prompt(prompt: PromptInput) -> str:
    """The whole prompt as text, ready for a tokenizer that knows the control tokens."""
    return render_prefix(prompt.instructions, prompt.tools) + render_messages(prompt.messages)
