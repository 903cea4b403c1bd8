"""Models of providers, over HTTPS: OpenAI-compatible and Anthropic-compatible APIs.

What a provider says becomes the text that our own models would have written, calls included, so that one
parser and one validation serve all. Its address and key are the operator's settings, never a caller's.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, NoReturn

import httpx
import structlog
from errand_common.errors import InvalidArgument, ModelUnavailable, RateLimited, Unavailable
from pydantic import SecretStr

from errand_inference.domain.chat import JsonValue, ToolCall
from errand_inference.domain.engine import Capability, Delta, EngineRequest, Finish, room_for
from errand_inference.domain.format import END_CALL, START_CALL, render_call
from errand_inference.domain.sanitise import TextSanitiser
from errand_inference.engines.remote_apis import APIS, Piece

# Text of most languages has at least so many characters a token; the provider's own figures replace the estimate.
_CHARACTERS_A_TOKEN = 4
_MOST_BYTES = 8 * 1024 * 1024
_MOST_CALLS = 64
_CONNECT_SECONDS = 5.0
_LONGEST_RETRY_SECONDS = 60.0
_PROBE_SECONDS = 5.0
# One that is lost on its way says nothing yet.
_MISSES = 3
_MODELS_PATH = "/models"
_KEY_REFUSED = {401, 402, 403}
_PASSING = {408, 409, 425}
_NAME = re.compile(r"\w+")
_log = structlog.get_logger(__name__)


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
        self._misses = 0
        key = options.key.get_secret_value() if options.key else ""
        self._client = httpx.AsyncClient(
            base_url=options.url.rstrip("/"),
            headers={"accept": "text/event-stream", **self._api.headers(key)},
            timeout=httpx.Timeout(options.silent_seconds, connect=_CONNECT_SECONDS),
            limits=httpx.Limits(
                # One more, so that a probe waits for no generation.
                max_connections=options.connections + 1,
                max_keepalive_connections=options.idle_connections,
            ),
            follow_redirects=False,
        )

    @property
    def is_alive(self) -> bool:
        """False when the provider missed several probes in a row."""
        return self._misses < _MISSES

    async def probe(self) -> bool:
        """Whether the provider answers and takes the key: asks for its list of models, which costs nothing."""
        try:
            async with asyncio.timeout(_PROBE_SECONDS), self._client.stream("GET", _MODELS_PATH) as response:
                # Not every server has such a list; one that says so answers.
                status = response.status_code
                answers = status == httpx.codes.NOT_IMPLEMENTED or status < httpx.codes.INTERNAL_SERVER_ERROR
                answers = answers and status not in _KEY_REFUSED
                told = f"status {status}"
        except (httpx.HTTPError, TimeoutError) as error:
            answers, told = False, type(error).__name__
        was_alive, self._misses = self.is_alive, 0 if answers else self._misses + 1
        if self.is_alive != was_alive:
            _log.warning("provider", model=self._options.model, answers=answers, told=told)
        return answers

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
        try:
            async with self._client.stream("POST", self._api.path, json=body) as response:
                await _check(response, self._options)
                async with aclosing(self._pieces(response)) as pieces:
                    async for piece in pieces:
                        if delta := answer.take(piece):
                            yield delta
        except httpx.TimeoutException as error:
            raise Unavailable("model", "The model's provider did not answer in time.") from error
        except httpx.HTTPError as error:
            raise Unavailable("model", "The model's provider cannot be reached.") from error
        yield answer.end()
        self._misses = 0

    async def _pieces(self, response: httpx.Response) -> AsyncGenerator[Piece, None]:
        async for line in _lines(response):
            data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
            if not data or data == "[DONE]":
                continue
            try:
                pieces = list(self._api.read(json.loads(data)))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise Unavailable("model", "The model's provider sent what cannot be read.") from error
            for piece in pieces:
                yield piece

    async def close(self) -> None:
        """Closes the connections; running generations fail."""
        await self._client.aclose()


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    """Lines of a stream whose size is bounded."""
    received, rest = 0, b""
    async for chunk in response.aiter_bytes():
        received += len(chunk)
        if received > _MOST_BYTES:
            raise Unavailable("model", "The model's provider sent more than an answer may hold.")
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", "replace").rstrip("\r")
    if rest:
        yield rest.decode("utf-8", "replace")


async def _check(response: httpx.Response, options: RemoteOptions) -> None:
    """Raises the error of a status; what the provider wrote is for the log only."""
    if response.status_code == httpx.codes.OK:
        return
    status, said = response.status_code, await _beginning(response)
    _log.warning("provider refused", model=options.model, status=status, said=said)
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise RateLimited(
            "The model's provider takes no more requests for now.", retry_after_seconds=_retry_after(response)
        )
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or status in _PASSING:
        raise Unavailable("model", f"The model's provider failed with status {status}.")
    _refused(status, options)


def _refused(status: int, options: RemoteOptions) -> NoReturn:
    if status in _KEY_REFUSED:
        raise ModelUnavailable("The model's provider refused the key; the operator must renew it.", model=options.model)
    if status == httpx.codes.NOT_FOUND or status < httpx.codes.BAD_REQUEST:
        raise ModelUnavailable(f"The model's provider does not serve {options.model!r} here.", model=options.model)
    raise InvalidArgument(f"messages: the model's provider refused the request (status {status}).", field="messages")


async def _beginning(response: httpx.Response) -> str:
    async for chunk in response.aiter_bytes(500):
        return chunk.decode("utf-8", "replace")
    return ""


def _retry_after(response: httpx.Response) -> float:
    try:
        return min(_LONGEST_RETRY_SECONDS, max(0.0, float(response.headers.get("retry-after", "1"))))
    except ValueError:
        return 1.0


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
