"""One turn of a model, asked for without an agent."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from errand_gateway.domain.resources import Usage


@dataclass(frozen=True, slots=True)
class ToolDeclaration:
    """A tool the model is told of; parameters are JSON Schema as text, empty for none."""

    name: str
    description: str
    parameters_json: str


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool; arguments are a JSON object as text."""

    name: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class UserTurn:
    """What the user said."""

    text: str


@dataclass(frozen=True, slots=True)
class ModelTurn:
    """What the model said or called."""

    text: str
    calls: Sequence[Call]


@dataclass(frozen=True, slots=True)
class ToolTurn:
    """What a tool answered, a JSON value as text."""

    name: str
    result_json: str


class ChoiceMode(StrEnum):
    """Whether tools are called."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    NAMED = "named"


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which tools may or must be called."""

    mode: ChoiceMode = ChoiceMode.AUTO
    name: str = ""
    single_call: bool = False


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn; 0 takes the model's default."""

    max_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 0.0
    seed: int | None = None
    stop: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class GenerateCommand:
    """Everything that makes one turn."""

    model: str
    instructions: str
    tools: Sequence[ToolDeclaration]
    messages: Sequence[UserTurn | ModelTurn | ToolTurn]
    choice: ToolChoice
    sampling: Sampling
    response_schema_json: str


class FinishReason(StrEnum):
    """Why the turn ended."""

    STOP = "stop"
    TOOL_CALLS = "tool_calls"
    LENGTH = "length"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Turn:
    """The turn."""

    text: str
    calls: Sequence[Call]
    finish_reason: FinishReason
    usage: Usage
    model: str


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A served model."""

    name: str
    is_embedding: bool
    is_default: bool


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors in the order of the texts."""

    vectors: Sequence[Sequence[float]]
    model: str
    usage: Usage


class ModelBackend(Protocol):
    """The inference service."""

    async def generate(self, command: GenerateCommand) -> Turn:
        """One turn."""
        ...

    def stream(self, command: GenerateCommand) -> AsyncIterator[str | Call | Turn]:
        """Pieces of text and calls, then the whole turn."""
        ...

    async def embed(self, model: str, texts: Sequence[str]) -> Embeddings:
        """Vectors of unit length."""
        ...

    async def list_models(self) -> Sequence[ModelInfo]:
        """The models, the default first."""
        ...
