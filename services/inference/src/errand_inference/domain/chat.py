"""The messages of one prompt, as every engine and the trainer see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

JsonValue: TypeAlias = "str | int | float | bool | Sequence[JsonValue] | Mapping[str, JsonValue] | None"


@dataclass(frozen=True, slots=True)
class ToolDeclaration:
    """A tool as the model is told of it; `parameters` is a JSON Schema of an object."""

    name: str
    description: str
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool with its arguments."""

    name: str
    arguments: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UserMessage:
    """What the user said."""

    text: str


@dataclass(frozen=True, slots=True)
class ModelMessage:
    """What the model said, called, or both."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolMessage:
    """What a tool answered; it continues the model's turn."""

    name: str
    result: JsonValue


Message: TypeAlias = UserMessage | ModelMessage | ToolMessage


@dataclass(frozen=True, slots=True)
class PromptInput:
    """Everything a prompt is rendered from, the messages oldest first."""

    messages: tuple[Message, ...]
    tools: tuple[ToolDeclaration, ...] = ()
    instructions: str = ""
