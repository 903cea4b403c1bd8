"""A vLLM server that somebody else runs, by its OpenAI-compatible completions: `vllm serve FOLDER`.

What is its own there: prompts are token ids, answers carry them too, and a grammar binds the output.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from errand_common.errors import InvalidArgument, Unavailable

from errand_inference.engines.provider import Address, ProviderConnection, unreadable
from errand_inference.engines.vllm import Asked, Told, VllmEngine

_PATH = "/completions"


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
        ended = False
        try:
            async with aclosing(self._provider.events(_PATH, self._body(asked))) as events:
                async for event in events:
                    for told in _read(event):
                        ended = ended or bool(told.finish)
                        yield told
        except InvalidArgument as error:
            if not asked.ebnf:
                raise
            message = "tools: the grammar of this request is not accepted by the model's server."
            raise InvalidArgument(message, field="tools") from error
        if not ended:
            raise Unavailable("model", "The model's server broke off its answer.")

    def _body(self, asked: Asked) -> dict[str, Any]:
        return {
            "model": self._model,
            "prompt": list(asked.ids),
            "max_tokens": asked.max_tokens,
            "temperature": asked.temperature,
            "top_p": asked.top_p,
            "stop_token_ids": list(asked.stop_ids),
            "return_token_ids": True,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
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
        if event.get("error"):
            raise Unavailable("model", "The model's server failed while it answered.")
        return [_told(choice, event.get("usage") or {}) for choice in event.get("choices") or ()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise unreadable() from error


def _told(choice: Mapping[str, Any], usage: Mapping[str, Any]) -> Told:
    ids = choice.get("token_ids")
    if ids is None:
        # An older server, or another than vLLM: text alone would lose the control tokens.
        raise Unavailable("model", "The model's server tells no token ids; it must be vLLM 0.11 or newer.")
    return Told(
        ids=tuple(map(int, ids)),
        logprobs=tuple(map(float, (choice.get("logprobs") or {}).get("token_logprobs") or ())),
        finish=str(choice.get("finish_reason") or ""),
        cached_tokens=int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0),
    )
