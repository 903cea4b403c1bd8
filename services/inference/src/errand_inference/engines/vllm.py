"""vLLM, in this process or as a server of its own: continuous batching, prefix cache and grammar, on GPUs.

Both are given token ids and give token ids back, so that prompts, stop tokens and text are the same as with every
other engine. The two differ in who starts vLLM and in how it is reached, and in nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from errand_common.errors import Unavailable
from tokenizers import Tokenizer

from errand_inference.domain.dialects import to_ebnf
from errand_inference.domain.engine import Capability, Delta, EngineRequest, Finish, room_for
from errand_inference.engines.decoding import DeltaReader
from errand_inference.engines.encoding import PromptTokenizer

# vLLM's words for an end; others (abort, error) mean that the output is not whole.
_FINISHES = {"stop": Finish.STOP, "length": Finish.LENGTH, "repetition": Finish.STOP}


@dataclass(frozen=True, slots=True)
class Asked:
    """A generation as vLLM is asked for it; an empty `ebnf` leaves it free."""

    ids: tuple[int, ...]
    stop_ids: tuple[int, ...]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    ebnf: str
    logprobs: bool


@dataclass(frozen=True, slots=True)
class Told:
    """Tokens of one generation. `finish` is vLLM's word for why it ended, empty while it goes on.

    `cached_tokens` may be told with the last ones only.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...] = ()
    finish: str = ""
    cached_tokens: int = 0


class Vllm(Protocol):
    """How vLLM is reached."""

    @property
    def is_alive(self) -> bool:
        """Whether it can still serve."""
        ...

    def tokens(self, asked: Asked) -> AsyncGenerator[Told, None]:
        """Tokens until one carries `finish`; raises InvalidArgument for a grammar that is not accepted."""
        ...

    async def close(self) -> None:
        """Frees what it holds."""
        ...


class VllmEngine:
    """Serves a Hugging Face model folder by vLLM."""

    name = "vllm"
    capabilities = frozenset(Capability)

    def __init__(self, folder: Path, vllm: Vllm, *, precision: str, context_tokens: int) -> None:
        """Raises RuntimeError when the tokenizer has no token that ends a turn."""
        self.precision, self.context_tokens, self._vllm = precision, context_tokens, vllm
        self._tokenizer = PromptTokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")))
        self._stop_ids = self._tokenizer.stop_ids()

    @property
    def is_alive(self) -> bool:
        """Whether vLLM can still serve."""
        return self._vllm.is_alive

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        return self._tokenizer.count(texts)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[Delta, None]:
        """Raises InvalidArgument when the prompt leaves no room or the grammar is not accepted."""
        ids = await self._tokenizer.ids(request.prompt)
        deltas, cached = DeltaReader(self._tokenizer, request.stop, len(ids)), 0
        async with aclosing(self._vllm.tokens(self._asked(request, ids))) as tokens:
            async for told in tokens:
                cached = told.cached_tokens or cached
                delta = deltas.delta(told.ids, _finish(told), cached_tokens=cached, logprobs=told.logprobs)
                yield delta
                if delta.finish:
                    return

    def _asked(self, request: EngineRequest, ids: list[int]) -> Asked:
        return Asked(
            ids=tuple(ids),
            stop_ids=self._stop_ids,
            max_tokens=room_for(request, len(ids), self.context_tokens),
            temperature=request.temperature,
            top_p=request.top_p,
            seed=(request.seed or 0) % 2**31 if request.temperature > 0 else None,
            ebnf=to_ebnf(request.grammar) if request.grammar else "",
            logprobs=request.logprobs,
        )

    async def close(self) -> None:
        """Ends what runs."""
        await self._vllm.close()


def _finish(told: Told) -> Finish | None:
    """Raises Unavailable for an output that vLLM gave up."""
    if told.finish and told.finish not in _FINISHES:
        raise Unavailable("model", f"The generation failed: vLLM ended it ({told.finish}).")
    return _FINISHES.get(told.finish)
