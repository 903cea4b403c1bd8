"""OpenVINO GenAI: continuous batching with paged KV cache, prefix cache and int8 weights on a CPU.

One thread owns the pipeline's `step()` loop; asyncio talks to it through queues.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai
from errand_common.errors import InvalidArgument, Unavailable
from tokenizers import Tokenizer

from errand_inference.domain.dialects import to_ebnf
from errand_inference.domain.engine import Capability, Delta, EngineRequest, Finish, JsonConstraint
from errand_inference.domain.format import STOP_TOKENS
from errand_inference.domain.grammar import Grammar
from errand_inference.engines.decoding import IncrementalDecoder


@dataclass(frozen=True, slots=True)
class OpenVinoOptions:
    """How the pipeline is built. `cache_gigabytes` bounds the KV cache; 0 threads takes all."""

    cache_gigabytes: int = 1
    max_batch: int = 64
    max_batched_tokens: int = 2048
    threads: int = 0
    precision_hint: str = "f32"


@dataclass(slots=True)
class _Job:
    """One generation, as the thread sees it."""

    id: int
    ids: list[int]
    config: Any
    loop: asyncio.AbstractEventLoop
    output: asyncio.Queue[tuple[list[int], Finish | None] | Exception]
    cancelled: threading.Event = field(default_factory=threading.Event)
    handle: Any = None

    def give(self, item: tuple[list[int], Finish | None] | Exception) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.output.put_nowait, item)


class OpenVinoEngine:
    """Serves a model folder converted to OpenVINO."""

    name = "openvino"
    capabilities = frozenset(
        {Capability.GRAMMAR, Capability.STREAMING, Capability.CONTINUOUS_BATCHING, Capability.PREFIX_CACHE}
    )

    def __init__(self, folder: Path, *, precision: str, context_tokens: int, options: OpenVinoOptions) -> None:
        self.precision, self.context_tokens = precision, context_tokens
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._stop_ids = {
            token_id for token in STOP_TOKENS if (token_id := self._tokenizer.token_to_id(token)) is not None
        }
        self._pipeline = _build_pipeline(folder, options)
        self._numbers = itertools.count()
        self._arrivals: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="openvino", daemon=True)
        self._thread.start()

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        return [len(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    async def generate(self, request: EngineRequest) -> AsyncGenerator[Delta, None]:
        """Raises InvalidArgument when the prompt does not leave room in the context."""
        ids = self._tokenizer.encode(request.prompt, add_special_tokens=False).ids
        if len(ids) + 1 > self.context_tokens:
            raise InvalidArgument(
                f"messages: the prompt has {len(ids)} tokens, the model reads {self.context_tokens}.", field="messages"
            )
        room = min(request.max_tokens, self.context_tokens - len(ids))
        job = _Job(next(self._numbers), ids, self._config(request, room), asyncio.get_running_loop(), asyncio.Queue())
        self._arrivals.put(job)
        decoder = IncrementalDecoder(self._decode, request.stop)
        try:
            async for delta in _deltas(job, decoder):
                yield delta
        finally:
            job.cancelled.set()

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False)
        return text

    def _config(self, request: EngineRequest, room: int) -> Any:
        config = genai.GenerationConfig()
        config.max_new_tokens = room
        config.stop_token_ids = self._stop_ids
        config.eos_token_id = min(self._stop_ids)
        config.do_sample = request.temperature > 0
        if config.do_sample:
            config.temperature, config.top_p = request.temperature, request.top_p
            config.rng_seed = (request.seed or 0) % 2**31
        if request.constraint is not None:
            config.structured_output_config = _structured(request.constraint)
        return config

    async def close(self) -> None:
        """Ends the thread; running generations fail with Unavailable."""
        self._ending.set()
        self._arrivals.put(None)
        await asyncio.to_thread(self._thread.join, 10)

    def _loop(self) -> None:
        jobs: dict[int, _Job] = {}
        while not self._ending.is_set():
            self._take_arrivals(jobs)
            if not jobs:
                continue
            try:
                self._drop_cancelled(jobs)
                if self._pipeline.has_non_finished_requests():
                    self._pipeline.step()
                self._read(jobs)
            except Exception as error:
                self._fail_all(jobs, error)
        self._fail_all(jobs, Unavailable("model", "The model is being unloaded."))

    def _take_arrivals(self, jobs: dict[int, _Job]) -> None:
        """Takes what arrived; waits when there is nothing else to do."""
        try:
            job = self._arrivals.get_nowait() if jobs else self._arrivals.get()
            while job is not None:
                self._add(jobs, job)
                job = self._arrivals.get_nowait()
        except queue.Empty:
            return

    def _add(self, jobs: dict[int, _Job], job: _Job) -> None:
        try:
            prompt = ov.Tensor(np.array([job.ids], dtype=np.int64))
            job.handle = self._pipeline.add_request(job.id, prompt, job.config)
        except Exception as error:
            job.give(InvalidArgument(f"tools: the grammar of this request is not accepted ({error}).", field="tools"))
            return
        jobs[job.id] = job

    def _drop_cancelled(self, jobs: dict[int, _Job]) -> None:
        for job in [job for job in jobs.values() if job.cancelled.is_set()]:
            job.handle.cancel()
            del jobs[job.id]

    def _read(self, jobs: dict[int, _Job]) -> None:
        for job in list(jobs.values()):
            finish: Finish | None = None
            ids: list[int] = []
            while job.handle.can_read():
                for output in job.handle.read().values():
                    ids.extend(output.generated_ids)
                    finish = _finish(output.finish_reason) or finish
            if finish is None and not job.handle.can_read() and _has_ended(job.handle):
                finish = Finish.STOP
            if ids or finish:
                job.give((ids, finish))
            if finish:
                del jobs[job.id]

    def _fail_all(self, jobs: dict[int, _Job], error: Exception) -> None:
        for job in jobs.values():
            job.give(error if isinstance(error, Unavailable) else RuntimeError(f"generation failed: {error}"))
        jobs.clear()


async def _deltas(job: _Job, decoder: IncrementalDecoder) -> AsyncGenerator[Delta, None]:
    while True:
        item = await job.output.get()
        if isinstance(item, Exception):
            raise item
        ids, finish = item
        text = decoder.feed(ids, last=finish is not None)
        finish = Finish.STOP if decoder.stopped else finish
        if text or finish or ids:
            yield Delta(text, len(ids), finish)
        if finish:
            return


def _finish(reason: Any) -> Finish | None:
    known = {genai.GenerationFinishReason.STOP: Finish.STOP, genai.GenerationFinishReason.LENGTH: Finish.LENGTH}
    return known.get(reason)


def _has_ended(handle: Any) -> bool:
    return bool(handle.get_status() != genai.GenerationStatus.RUNNING)


def _structured(constraint: Grammar | JsonConstraint) -> Any:
    config = genai.StructuredOutputConfig()
    if isinstance(constraint, JsonConstraint):
        config.json_schema = constraint.schema_json
    else:
        config.grammar = to_ebnf(constraint)
    return config


def _build_pipeline(folder: Path, options: OpenVinoOptions) -> Any:
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = options.cache_gigabytes
    scheduler.enable_prefix_caching = True
    scheduler.max_num_batched_tokens = options.max_batched_tokens
    scheduler.max_num_seqs = options.max_batch
    scheduler.dynamic_split_fuse = True
    properties: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": options.precision_hint,
        "KV_CACHE_PRECISION": options.precision_hint,
    }
    if options.threads:
        properties["INFERENCE_NUM_THREADS"] = options.threads
    return genai.ContinuousBatchingPipeline(str(folder), scheduler, "CPU", properties)
