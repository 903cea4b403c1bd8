"""Models of providers, over HTTPS: OpenAI-compatible and Anthropic-compatible APIs.

What a provider says becomes the text that our own models would have written, calls included, so that one
parser and one validation serve all.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from errand_common.errors import InvalidArgument, Unavailable
from pydantic import SecretStr

from errand_inference.domain.chat import JsonValue, ToolCall
from errand_inference.domain.engine import Capability, Delta, EngineRequest, Finish, room_for
from errand_inference.domain.format import END_CALL, START_CALL, render_call
from errand_inference.domain.sanitise import TextSanitiser
from errand_inference.engines.provider import Address, ProviderConnection, unreadable
from errand_inference.engines.remote_apis import APIS, Piece

# Text of most languages has at least so many characters a token; the provider's own figures replace the estimate.
_CHARACTERS_A_TOKEN = 4
_MOST_CALLS = 64
_NAME = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """Where a model is. `url` ends before the API's own path, for example in /v1; `silent_seconds` bounds the
    time without a byte."""

    url: str
    model: str
    api: str = "openai"
    key: SecretStr | None = None
    context_tokens: int = 128_000
    silent_seconds: float = 60.0
    connections: int = 64
    idle_connections: int = 16


class RemoteEngine:
    """Serves one model of one provider."""

    name = "remote"
    precision = "none"
    capabilities = frozenset({Capability.STREAMING, Capability.CONTINUOUS_BATCHING})

    def __init__(self, options: RemoteOptions) -> None:
        self.context_tokens = options.context_tokens
        self._options, self._api = options, APIS[options.api]
        key = options.key.get_secret_value() if options.key else ""
        self._provider = ProviderConnection(
            Address(
                options.url,
                options.model,
                self._api.headers(key),
                options.silent_seconds,
                options.connections,
                options.idle_connections,
            )
        )

    @property
    def is_alive(self) -> bool:
        """False when the provider missed several probes in a row."""
        return self._provider.is_alive

    async def probe(self) -> bool:
        """Whether the provider answers and takes the key."""
        return await self._provider.probe()

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """An estimate: a provider's tokenizer is its own."""
        return [-(-len(text) // _CHARACTERS_A_TOKEN) for text in texts]

    async def generate(self, request: EngineRequest) -> AsyncGenerator[Delta, None]:
        """Raises Unavailable and RateLimited for what may pass, ModelUnavailable and InvalidArgument for the rest."""
        if request.chat is None:
            raise InvalidArgument("messages: a provider's model reads messages only.", field="messages")
        room = room_for(request, self.count_tokens([request.prompt])[0], self.context_tokens)
        body = self._api.body(self._options.model, request.chat, request, room)
        answer = _Answer()
        async with aclosing(self._provider.events(self._api.path, body)) as events:
            async for event in events:
                for piece in self._pieces(event):
                    if delta := answer.take(piece):
                        yield delta
        yield answer.end()

    def _pieces(self, event: Any) -> list[Piece]:
        try:
            return list(self._api.read(event))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise unreadable() from error

    async def close(self) -> None:
        """Closes the connections; running generations fail."""
        await self._provider.close()


@dataclass(slots=True)
class _Call:
    name: str = ""
    arguments: str = ""

    def text(self) -> str:
        """The call as our models write it; one that cannot be written is told as a malformed one."""
        try:
            arguments: Mapping[str, JsonValue] | Any = json.loads(self.arguments or "{}")
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict) or not _NAME.fullmatch(self.name):
            return f"{START_CALL}{END_CALL}"
        return render_call(ToolCall(self.name, arguments))


@dataclass(slots=True)
class _Answer:
    """Puts the pieces of one answer together."""

    _calls: dict[int, _Call] = field(default_factory=dict)
    _sanitiser: TextSanitiser = field(default_factory=TextSanitiser)
    _told: int = 0
    _tokens: int | None = None
    _prompt_tokens: int = 0
    _cached_tokens: int = 0
    _ended: bool = False
    _cut: bool = False

    def take(self, piece: Piece) -> Delta | None:
        """What of a piece can be told now: text. Calls are told when they are whole, at the end."""
        if piece.failed:
            raise Unavailable("model", "The model's provider failed while it answered.")
        self._prompt_tokens = piece.prompt_tokens or self._prompt_tokens
        self._cached_tokens = piece.cached_tokens or self._cached_tokens
        if piece.completion_tokens is not None:
            self._tokens = piece.completion_tokens
        self._ended, self._cut = self._ended or piece.ended, self._cut or piece.is_cut
        if piece.call >= 0:
            self._add(piece)
        text = self._sanitiser.feed(piece.text) if piece.text else ""
        return self._delta(text) if text else None

    def _add(self, piece: Piece) -> None:
        if piece.call not in self._calls and len(self._calls) >= _MOST_CALLS:
            raise Unavailable("model", "The model's provider sent more calls than a turn may hold.")
        call = self._calls.setdefault(piece.call, _Call())
        call.name = call.name or piece.name
        call.arguments += piece.arguments

    def _delta(self, text: str) -> Delta:
        # A piece is a token, as far as one can see; the end sets it right.
        self._told += 1
        return Delta(text, 1, None, self._prompt_tokens, self._cached_tokens)

    def end(self) -> Delta:
        """The last delta. Raises Unavailable for a stream that broke off."""
        if not self._ended:
            raise Unavailable("model", "The model's provider broke off its answer.")
        calls = "".join(call.text() for _, call in sorted(self._calls.items()))
        tokens = max(0, self._tokens - self._told) if self._tokens is not None else len(self._calls)
        finish = Finish.LENGTH if self._cut else Finish.STOP
        return Delta(self._sanitiser.finish() + calls, tokens, finish, self._prompt_tokens, self._cached_tokens)
