"""transformers and torch, on CPU or CUDA: the reference that other engines are compared with.

Generations share a batch that they join and leave between two steps, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import llguidance.hf
import torch
from errand_common.errors import Unavailable
from transformers import AutoModelForCausalLM, AutoTokenizer

from errand_inference.domain.engine import Capability, Delta, EngineRequest, Finish, room_for
from errand_inference.domain.format import END_TURN
from errand_inference.engines.decoding import DeltaReader
from errand_inference.engines.encoding import PromptTokenizer
from errand_inference.engines.torch_batch import Batch, Chooser, Chosen, Row

_CLOSING_SECONDS = 30.0


@dataclass(slots=True)
class _Reader:
    """Hands a row's tokens to the event loop that waits for them; counts what room is left."""

    room: int
    stop_ids: frozenset[int]
    loop: asyncio.AbstractEventLoop
    output: asyncio.Queue[Sequence[Chosen] | Exception] = field(default_factory=asyncio.Queue)

    def tell(self, told: Sequence[Chosen] | Exception) -> bool:
        """From the batch's thread. Whether more is wanted."""
        if self.loop.is_closed():
            return False
        self.loop.call_soon_threadsafe(self.output.put_nowait, told)
        if isinstance(told, Exception):
            return False
        self.room -= len(told)
        return self.room > 0 and all(one.token not in self.stop_ids for one in told)


class TransformersEngine:
    """Serves a Hugging Face model folder."""

    name = "transformers"
    is_alive = True
    capabilities = frozenset(
        {
            Capability.GRAMMAR,
            Capability.STREAMING,
            Capability.CONTINUOUS_BATCHING,
            Capability.LOGPROBS,
            Capability.EXACT_TOKENS,
        }
    )

    def __init__(
        self, folder: Path, *, context_tokens: int, precision: str = "fp32", device: str = "cpu", threads: int = 0
    ) -> None:
        self.precision, self.context_tokens = precision, context_tokens
        if threads:
            torch.set_num_threads(threads)
        dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        place = torch.device(device)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._tokenizer = PromptTokenizer(tokenizer.backend_tokenizer)
        self._stop_ids = frozenset(self._tokenizer.stop_ids())
        end = self._tokenizer.id_of(END_TURN)
        if end is None:
            raise ValueError(f"the tokenizer does not know {END_TURN}")
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
        self._batch = Batch(model.to(place).eval(), place)  # type: ignore[arg-type]
        self._vocabulary = llguidance.hf.from_tokenizer(tokenizer, n_vocab=model.config.vocab_size, eos_token=end)
        self._arrived: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="transformers", daemon=True)
        self._thread.start()

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        return self._tokenizer.count(texts)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[Delta, None]:
        """Raises InvalidArgument when the prompt leaves no room or the grammar is not accepted."""
        ids = await self._tokenizer.ids(request.prompt)
        room = room_for(request, len(ids), self.context_tokens)
        reader = _Reader(room, self._stop_ids, asyncio.get_running_loop())
        row = Row(ids, Chooser(request, self._vocabulary), reader.tell, threading.Event())
        deltas = DeltaReader(self._tokenizer, request.stop, len(ids))
        if self._ending.is_set():
            raise _unloaded()
        self._arrived.put(row)
        try:
            while True:
                told = await reader.output.get()
                if isinstance(told, Exception):
                    raise told
                told = told[:room]
                room -= len(told)
                ended = any(one.token in self._stop_ids for one in told)
                finish = Finish.STOP if ended else Finish.LENGTH if room == 0 else None
                logprobs = [one.logprob for one in told] if request.logprobs else ()
                delta = deltas.delta([one.token for one in told], finish, logprobs=logprobs)
                yield delta
                if delta.finish:
                    return
        finally:
            row.cancelled.set()

    def _run(self) -> None:
        """Steps while there are rows; a step that fails fails them all, the next ones are tried."""
        while not self._ending.is_set():
            new = self._newcomers()
            try:
                if new:
                    self._batch.admit(new)
                self._batch.step()
            except Exception as error:
                self._fail(new, Unavailable("model", f"The generation failed: {_first_line(error)}."))
        self._fail(self._newcomers(), _unloaded())

    def _newcomers(self) -> list[Row]:
        """Those that came; waits for one when nothing runs."""
        new: list[Row] = []
        waits = not self._batch.rows and not self._ending.is_set()
        while True:
            try:
                row = self._arrived.get(block=waits and not new)
            except queue.Empty:
                break
            if row is None:
                break
            if not row.cancelled.is_set():
                new.append(row)
        return new

    def _fail(self, new: list[Row], error: Exception) -> None:
        running = self._batch.clear()
        for row in {id(row): row for row in (*running, *new)}.values():
            row.tell(error)

    async def close(self) -> None:
        """Ends running generations and the thread."""
        self._ending.set()
        self._arrived.put(None)
        await asyncio.to_thread(self._thread.join, _CLOSING_SECONDS)


def _unloaded() -> Unavailable:
    return Unavailable("model", "The model is being unloaded.")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
