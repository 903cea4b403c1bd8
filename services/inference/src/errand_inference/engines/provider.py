"""A server of models over HTTP: what is sent there, the events it streams back, and whether it is there at all.

Its address and key are the operator's settings, never a caller's. What it wrote about an error is for the log only.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol, runtime_checkable

import httpx
import structlog
from errand_common.errors import InvalidArgument, ModelUnavailable, RateLimited, Unavailable

_MOST_BYTES = 8 * 1024 * 1024
_CONNECT_SECONDS = 5.0
_LONGEST_RETRY_SECONDS = 60.0
_PROBE_SECONDS = 5.0
# One that is lost on its way says nothing yet.
_MISSES = 3
_MODELS_PATH = "/models"
_KEY_REFUSED = {401, 402, 403}
_PASSING = {408, 409, 425}
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a model is. `url` ends before an API's own path, for example in /v1; `silent_seconds` bounds the time
    without a byte."""

    url: str
    model: str
    headers: Mapping[str, str] = field(default_factory=dict)
    silent_seconds: float = 60.0
    connections: int = 64
    idle_connections: int = 16


@runtime_checkable
class Distant(Protocol):
    """An engine whose model runs elsewhere: whether it is there is looked at from time to time."""

    async def probe(self) -> bool:
        """Whether it answers."""
        ...


class ProviderConnection:
    """Sends requests to one provider and remembers whether it answers."""

    def __init__(self, address: Address) -> None:
        self._model = address.model
        self._misses = 0
        self._client = httpx.AsyncClient(
            base_url=address.url.rstrip("/"),
            headers={"accept": "text/event-stream", **address.headers},
            timeout=httpx.Timeout(address.silent_seconds, connect=_CONNECT_SECONDS),
            limits=httpx.Limits(
                # One more, so that a probe waits for no generation.
                max_connections=address.connections + 1,
                max_keepalive_connections=address.idle_connections,
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
            _log.warning("provider", model=self._model, answers=answers, told=told)
        return answers

    async def events(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        """The JSON of each event of the answer's stream.

        Raises Unavailable and RateLimited for what may pass, ModelUnavailable and InvalidArgument for the rest.
        """
        try:
            async with self._client.stream("POST", path, json=body) as response:
                await self._check(response)
                self._misses = 0
                async for line in _lines(response):
                    data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
                    if data and data != "[DONE]":
                        yield _json(data)
        except httpx.TimeoutException as error:
            raise Unavailable("model", "The model's provider did not answer in time.") from error
        except httpx.HTTPError as error:
            raise Unavailable("model", "The model's provider cannot be reached.") from error

    async def _check(self, response: httpx.Response) -> None:
        """Raises the error of a status."""
        if response.status_code == httpx.codes.OK:
            return
        status, said = response.status_code, await _beginning(response)
        _log.warning("provider refused", model=self._model, status=status, said=said)
        if status == httpx.codes.TOO_MANY_REQUESTS:
            raise RateLimited(
                "The model's provider takes no more requests for now.", retry_after_seconds=_retry_after(response)
            )
        if status >= httpx.codes.INTERNAL_SERVER_ERROR or status in _PASSING:
            raise Unavailable("model", f"The model's provider failed with status {status}.")
        _refused(status, self._model)

    async def close(self) -> None:
        """Closes the connections; running generations fail."""
        await self._client.aclose()


def unreadable() -> Unavailable:
    """The error of an event that is none."""
    return Unavailable("model", "The model's provider sent what cannot be read.")


def _json(data: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise unreadable() from error


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


def _refused(status: int, model: str) -> NoReturn:
    if status in _KEY_REFUSED:
        raise ModelUnavailable("The model's provider refused the key; the operator must renew it.", model=model)
    if status == httpx.codes.NOT_FOUND or status < httpx.codes.BAD_REQUEST:
        raise ModelUnavailable(f"The model's provider does not serve {model!r} here.", model=model)
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
