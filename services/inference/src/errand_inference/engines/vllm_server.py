"""A vLLM server that somebody else runs, by its OpenAI-compatible completions: `vllm serve FOLDER`.

What is its own there: prompts are token ids, answers carry them too, and a grammar binds the output.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

from errand_common.errors import InvalidArgument, Unavailable

from errand_inference.engines.provider import Address, ProviderConnection, unreadable
from errand_inference.engines.vllm import Asked, Told, VllmEngine

_PATH = "/completions"
_CLIENT_FAULT, _SERVER_FAULT = 400, 500


class VllmServer:
    """One model of a server."""

    def __init__(self, address: Address) -> None:
        self._model, self._provider = address.model, ProviderConnection(address)

    @property
    def is_alive(self) -> bool:
        """False when the server missed several probes in a row."""
        return self._provider.is_alive

    async def probe(self) -> bool:
        """Whether the server answers."""
        return await self._provider.probe()

    async def tokens(self, asked: Asked) -> AsyncGenerator[Told, None]:
        """Raises InvalidArgument for what is refused, a grammar most likely, and Unavailable for a broken stream."""
        last: Told | None = None
        cached = 0
        try:
            async with aclosing(self._provider.events(_PATH, self._body(asked))) as events:
                async for event in events:
                    cached = _cached_tokens(event) or cached
                    for told in _read(event):
                        if told.finish:
                            last = told
                        else:
                            yield told
        except InvalidArgument as error:
            if not asked.ebnf:
                raise
            message = "tools: the grammar of this request is not accepted by the model's server."
            raise InvalidArgument(message, field="tools") from error
        if last is None:
            raise Unavailable("model", "The model's server broke off its answer.")
        # Only now: what the cache saved is told after the end, and a stream that is read out leaves its connection.
        yield replace(last, cached_tokens=cached)

    def _body(self, asked: Asked) -> dict[str, Any]:
        return {
            "model": self._model,
            "prompt": list(asked.ids),
            "max_tokens": asked.max_tokens,
            "temperature": asked.temperature,
            "top_p": asked.top_p,
            # Said, as the server takes what is not said from the model's generation_config.json (Gemma's: top_k 64).
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "stop_token_ids": list(asked.stop_ids),
            "return_token_ids": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            **({} if asked.seed is None else {"seed": asked.seed}),
            **({"logprobs": 0} if asked.logprobs else {}),
            **({"structured_outputs": {"grammar": asked.ebnf}} if asked.ebnf else {}),
        }

    async def close(self) -> None:
        """Closes the connections; running generations fail."""
        await self._provider.close()


class VllmServerEngine(VllmEngine):
    """Serves a model folder by a vLLM server, which holds the same files."""

    def __init__(self, folder: Path, server: VllmServer, *, context_tokens: int) -> None:
        super().__init__(folder, server, precision="server", context_tokens=context_tokens)
        self._server = server

    async def probe(self) -> bool:
        """Whether the server answers."""
        return await self._server.probe()


def _read(event: Any) -> list[Told]:
    try:
        if error := event.get("error"):
            raise _failure(int(error.get("code") or _SERVER_FAULT))
        return [_told(choice) for choice in event.get("choices") or ()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise unreadable() from error


def _failure(status: int) -> InvalidArgument | Unavailable:
    """The server reads a request, its grammar too, when it has begun to answer: so it refuses within the stream."""
    if status in range(_CLIENT_FAULT, _SERVER_FAULT):
        return InvalidArgument(f"messages: the model's server refused the request (status {status}).", field="messages")
    return Unavailable("model", "The model's server failed while it answered.")


def _cached_tokens(event: Any) -> int:
    """Zero where none are told: vLLM does only when it is started with `--enable-prompt-tokens-details`."""
    try:
        return int(((event.get("usage") or {}).get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
    except (ValueError, TypeError, AttributeError) as error:
        raise unreadable() from error


def _told(choice: Mapping[str, Any]) -> Told:
    ids = choice.get("token_ids")
    if ids is None:
        # An older server, or another than vLLM: text alone would lose the control tokens.
        raise Unavailable("model", "The model's server tells no token ids; it must be vLLM 0.11 or newer.")
    return Told(
        ids=tuple(map(int, ids)),
        logprobs=tuple(map(float, (choice.get("logprobs") or {}).get("token_logprobs") or ())),
        finish=str(choice.get("finish_reason") or ""),
    )
