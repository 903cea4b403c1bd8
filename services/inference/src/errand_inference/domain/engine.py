"""The port that every engine fills, and what passes through it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from errand_common.errors import InvalidArgument

from errand_inference.domain.chat import PromptInput
from errand_inference.domain.grammar import Grammar, ToolChoice


class Capability(Enum):
    """What an engine can do; the conformance suite tests what is declared."""

    GRAMMAR = "grammar"
    STREAMING = "streaming"
    CONTINUOUS_BATCHING = "continuous_batching"
    PREFIX_CACHE = "prefix_cache"
    LOGPROBS = "logprobs"
    EXACT_TOKENS = "exact_tokens"


class Finish(Enum):
    """Why an engine stopped."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """What the prompt was rendered from, for an engine that renders its own; `only_tool` empty means any."""

    prompt: PromptInput
    choice: ToolChoice = ToolChoice.AUTO
    only_tool: str = ""
    single_call: bool = False
    response_schema_json: str = ""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One generation. `temperature` 0 is greedy; `stop` texts end it and are not part of the output.

    Without `streamed` an engine may tell several tokens at once: nobody reads along, and each telling costs.
    """

    prompt: str
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    grammar: Grammar | None = None
    streamed: bool = True
    chat: ChatTurn | None = None
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token and the natural logarithm of its probability among those that were allowed."""

    token: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of output: text as far as it is whole characters, tokens it took, the end if it is one.

    Every delta tells how many tokens the prompt has and how many of them a cache saved.
    """

    text: str
    tokens: int
    finish: Finish | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()


class Engine(Protocol):
    """Runs one model. Every method may be called concurrently."""

    name: str
    precision: str
    context_tokens: int
    capabilities: frozenset[Capability]

    @property
    def is_alive(self) -> bool:
        """Whether it can still serve."""
        ...

    def generate(self, request: EngineRequest) -> AsyncGenerator[Delta, None]:
        """Deltas until one carries `finish`. Closing the iterator cancels and frees the slot."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text by the model's own tokenizer."""
        ...

    async def close(self) -> None:
        """Ends running generations and frees the model."""
        ...


def room_for(request: EngineRequest, prompt_tokens: int, context_tokens: int) -> int:
    """Tokens that may be generated; raises InvalidArgument when the prompt leaves no room for one."""
    if prompt_tokens >= context_tokens:
        raise InvalidArgument(
            f"messages: the prompt has {prompt_tokens} tokens, the model reads {context_tokens}.", field="messages"
        )
    return min(request.max_tokens, context_tokens - prompt_tokens)
