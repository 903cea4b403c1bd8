"""transformers and torch, on CPU or CUDA: the reference that other engines are compared with.

Generations run one after the other in a thread of their own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import llguidance
import llguidance.hf
import llguidance.numpy
import torch
from errand_common.errors import InvalidArgument, Unavailable
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from errand_inference.domain.dialects import to_lark
from errand_inference.domain.engine import Capability, Delta, EngineRequest, Finish, TokenLogprob, room_for
from errand_inference.domain.format import END_TURN, STOP_TOKENS
from errand_inference.domain.grammar import Grammar
from errand_inference.engines.decoding import IncrementalDecoder


class TransformersEngine:
    """Serves a Hugging Face model folder."""

    name = "transformers"
    is_alive = True
    capabilities = frozenset({Capability.GRAMMAR, Capability.STREAMING, Capability.LOGPROBS, Capability.EXACT_TOKENS})

    def __init__(
        self, folder: Path, *, context_tokens: int, precision: str = "fp32", device: str = "cpu", threads: int = 0
    ) -> None:
        self.precision, self.context_tokens = precision, context_tokens
        if threads:
            torch.set_num_threads(threads)
        dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        self._device = torch.device(device)
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
        self._model = model.to(self._device).eval()  # type: ignore[arg-type]
        known = self._tokenizer.get_vocab()
        self._stop_ids = {known[token] for token in STOP_TOKENS if token in known}
        if END_TURN not in known:
            raise ValueError(f"the tokenizer does not know {END_TURN}")
        self._vocabulary = llguidance.hf.from_tokenizer(
            self._tokenizer, n_vocab=model.config.vocab_size, eos_token=known[END_TURN]
        )
        self._ending = threading.Event()
        self._worker = ThreadPoolExecutor(1, "transformers")

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        return [len(self._encode(text)) for text in texts]

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[Delta, None]:
        """Raises InvalidArgument when the prompt does not leave room in the context."""
        ids = self._encode(request.prompt)
        room = room_for(request, len(ids), self.context_tokens)
        output: asyncio.Queue[Delta | Exception] = asyncio.Queue()
        cancelled = threading.Event()
        loop = asyncio.get_running_loop()
        work = self._worker.submit(self._work, request, ids, room, loop, output, cancelled)
        try:
            while True:
                item = await output.get()
                if isinstance(item, Exception):
                    raise item
                yield item
                if item.finish:
                    break
        finally:
            cancelled.set()
            work.cancel()

    def _work(
        self,
        request: EngineRequest,
        ids: list[int],
        room: int,
        loop: asyncio.AbstractEventLoop,
        output: asyncio.Queue[Delta | Exception],
        cancelled: threading.Event,
    ) -> None:
        try:
            for delta in self._deltas(request, ids, room, cancelled):
                loop.call_soon_threadsafe(output.put_nowait, delta)
        except Exception as error:
            loop.call_soon_threadsafe(output.put_nowait, error)

    def _deltas(self, request: EngineRequest, ids: list[int], room: int, cancelled: threading.Event) -> Iterator[Delta]:
        decoder = IncrementalDecoder(self._decode, request.stop)
        for position, (token, logprob) in enumerate(self._tokens(request, ids, cancelled), start=1):
            ended = token in self._stop_ids
            finish = Finish.STOP if ended else Finish.LENGTH if position >= room else None
            text = decoder.feed([] if ended else [token], last=finish is not None)
            finish = Finish.STOP if decoder.stopped else finish
            told = (TokenLogprob(self._decode([token]), logprob),) if request.logprobs else ()
            yield Delta(text, 1, finish, len(ids), logprobs=told)
            if finish:
                return

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    @torch.inference_mode()
    def _tokens(
        self, request: EngineRequest, ids: list[int], cancelled: threading.Event
    ) -> Iterator[tuple[int, float]]:
        choose = _Chooser(request, self._vocabulary)
        cache = DynamicCache()
        inputs = torch.tensor([ids], device=self._device)
        while not cancelled.is_set():
            if self._ending.is_set():
                raise Unavailable("model", "The model is being unloaded.")
            logits = self._model(input_ids=inputs, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            allowed = logits[0, -1].float().cpu()
            token = choose(allowed)
            yield token, float(allowed.log_softmax(-1)[token]) if request.logprobs else 0.0
            inputs = torch.tensor([[token]], device=self._device)

    async def close(self) -> None:
        """Ends running generations and frees the thread."""
        self._ending.set()
        await asyncio.to_thread(self._worker.shutdown, wait=True, cancel_futures=True)


class _Chooser:
    """Masks what the grammar forbids, then takes the best token or draws one."""

    def __init__(self, request: EngineRequest, vocabulary: Any) -> None:
        self._request = request
        self._matcher = _matcher(request.grammar, vocabulary) if request.grammar is not None else None
        self._mask = llguidance.numpy.allocate_token_bitmask(1, vocabulary.vocab_size)
        self._random = torch.Generator().manual_seed(request.seed or 0)

    def __call__(self, logits: torch.Tensor) -> int:
        if self._matcher is not None:
            llguidance.numpy.fill_next_token_bitmask(self._matcher, self._mask, 0)
            llguidance.numpy.apply_token_bitmask_inplace(logits.numpy()[None, :], self._mask)
        token = self._draw(logits)
        if self._matcher is not None:
            self._matcher.consume_token(token)
        return token

    def _draw(self, logits: torch.Tensor) -> int:
        if self._request.temperature == 0:
            return int(logits.argmax())
        weights = torch.softmax(logits / self._request.temperature, dim=-1)
        ordered, order = weights.sort(descending=True)
        # The smallest set of tokens whose mass reaches top_p (Holtzman et al. 2020).
        ordered[ordered.cumsum(0) - ordered >= self._request.top_p] = 0
        return int(order[torch.multinomial(ordered, 1, generator=self._random)])


def _matcher(grammar: Grammar, vocabulary: Any) -> Any:
    matcher = llguidance.LLMatcher(vocabulary, to_lark(grammar))
    if problem := matcher.get_error():
        raise InvalidArgument(f"tools: the grammar of this request is not accepted ({problem}).", field="tools")
    return matcher
