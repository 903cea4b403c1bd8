"""The engine process: owns OpenVINO GenAI's pipeline and its `step()` loop, in one thread.

A process of its own, because `step()` holds Python's interpreter lock: a long prompt would stop the
service's event loop (health, cancellations, other models) for as long as the prompt is read.
Run by OpenVinoEngine: `python -m errand_inference.engines.openvino_worker FD`; what it loads is told over FD.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai
from numpy.typing import NDArray

from errand_inference.domain.format import END_TURN
from errand_inference.engines.wire import (
    Cancel,
    Command,
    Ending,
    Event,
    Failed,
    Load,
    LoadFailed,
    OpenVinoOptions,
    Output,
    Ready,
    Start,
)

# A shared prefix shorter than this costs less to compute twice than to wait for.
_WORTH_WAITING_TOKENS = 128
# Tokens in one block of the KV cache on a CPU; only whole blocks are shared.
_BLOCK_TOKENS = 32
_PREFIXES_REMEMBERED = 4096
# After the first request in a while, those that follow within so many seconds of each other are waited for, as long
# as all this takes no longer than that: each that begins a step late ends a step late, in a batch that is not full.
_GATHERING_SECONDS, _MOST_GATHERING_SECONDS = 0.003, 0.03
# Tokens that nobody reads along are told so many at a time, and no later than this: some must be there when
# a deadline passes.
_TOLD_AT_ONCE = 16
_TOLD_SECONDS = 0.2
_GRAMMARS_REMEMBERED = 512
_RUNNING = genai.GenerationStatus.RUNNING
_FINISHES = {genai.GenerationFinishReason.STOP: "stop", genai.GenerationFinishReason.LENGTH: "length"}


@dataclass(slots=True)
class _Job:
    start: Start
    prompt: NDArray[np.int64]
    handle: Any
    cached_tokens: int
    has_output: bool = False
    untold: int = 0
    told_at: float = 0.0

    def is_due(self, now: float) -> bool:
        """Whether its output is read after this step; the first token always is, as its time is measured."""
        if not self.start.streamed and self.has_output and self.handle.get_status() == _RUNNING:
            return self.untold >= _TOLD_AT_ONCE or now - self.told_at >= _TOLD_SECONDS
        return True


class PrefixBook:
    """Remembers which prompts' blocks were computed, to tell how many tokens the cache saved.

    The pipeline does not tell; it may have dropped blocks of old prompts when its memory was full, so the
    count is what the cache can have saved at most.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[int, None] = OrderedDict()

    def add(self, prompt: NDArray[np.int64]) -> int:
        """Notes a prompt and returns how many of its tokens were noted before."""
        known, still_known, key = 0, True, 0
        # A request computes its last token itself, even when all blocks are there.
        for end in range(_BLOCK_TOKENS, len(prompt), _BLOCK_TOKENS):
            key = hash((key, prompt[end - _BLOCK_TOKENS : end].tobytes()))
            still_known = still_known and key in self._seen
            known = end if still_known else known
            self._seen[key] = None
            self._seen.move_to_end(key)
        while len(self._seen) > _PREFIXES_REMEMBERED:
            self._seen.popitem(last=False)
        return known


class Worker:
    """The batch. Jobs that share a prefix with one that is still being read wait for it to be read."""

    def __init__(self, pipeline: Any, connection: Connection) -> None:
        self._pipeline, self._connection = pipeline, connection
        self._jobs: dict[int, _Job] = {}
        self._held: dict[int, tuple[Start, NDArray[np.int64]]] = {}
        self._book = PrefixBook()
        self._proven = _Proven()
        self._broken = False

    def run(self) -> None:
        """Until the service closes the connection, or the pipeline is broken."""
        while not self._broken:
            events: list[Event] = []
            for command in self._commands():
                match command:
                    case Start():
                        self._held[command.id] = (command, np.array(command.prompt_ids, dtype=np.int64))
                    case Cancel():
                        self._cancel(command.id)
            events.extend(self._admit())
            if self._jobs:
                events.extend(self._step())
            if events:
                self._connection.send([*events, Ending()] if self._broken else events)

    def _commands(self) -> Iterator[Command]:
        """What arrived; waits when there is nothing else to do, and then a little for what comes together."""
        is_idle = not (self._jobs or self._held)
        wait: float | None = None if is_idle else 0.0
        until = 0.0
        while self._connection.poll(wait):
            yield self._connection.recv()
            if is_idle:
                now = time.monotonic()
                until = until or now + _MOST_GATHERING_SECONDS
                wait = max(0.0, min(_GATHERING_SECONDS, until - now))

    def _cancel(self, id: int) -> None:
        self._held.pop(id, None)
        if job := self._jobs.pop(id, None):
            job.handle.cancel()

    def _admit(self) -> Iterator[Event]:
        for id, (start, prompt) in list(self._held.items()):
            if self._is_being_read(prompt):
                continue
            del self._held[id]
            try:
                handle = self._pipeline.add_request(id, ov.Tensor(prompt[None]), _config(start))
            except (RuntimeError, ValueError) as error:
                yield Failed(id, _first_line(error), rejected=True)
                continue
            self._jobs[id] = _Job(start, prompt, handle, self._book.add(prompt))

    def _is_being_read(self, prompt: NDArray[np.int64]) -> bool:
        """Whether a job computes a long part of this prompt right now: it is cheaper to wait for its blocks."""
        return any(
            _common_prefix(job.prompt, prompt) - job.cached_tokens >= _WORTH_WAITING_TOKENS
            for job in self._jobs.values()
            if not job.has_output
        )

    def _step(self) -> Iterator[Event]:
        try:
            self._pipeline.step()
        except RuntimeError as error:
            yield from self._give_up(_first_line(error))
            return
        now = time.monotonic()
        for id, job in list(self._jobs.items()):
            job.untold += 1
            if not job.is_due(now):
                continue
            if output := _read(id, job):
                job.has_output, job.untold, job.told_at = True, 0, now
                self._proven.add(job.start.ebnf)
                yield output
            if output and output.finish:
                del self._jobs[id]

    def _give_up(self, message: str) -> Iterator[Event]:
        """A step compiles the grammars of new jobs: those that never worked are at fault, else nobody knows who.

        The pipeline keeps a job it failed on and fails on it for ever: this process must end.
        """
        suspects = [id for id, job in self._jobs.items() if job.start.ebnf not in self._proven]
        for id in [*self._jobs, *self._held]:
            yield Failed(id, message, rejected=id in suspects)
        self._broken = True


class _Proven:
    """Grammars that gave output; the empty one is always good."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, ebnf: str) -> bool:
        return not ebnf or ebnf in self._known

    def add(self, ebnf: str) -> None:
        self._known[ebnf] = None
        self._known.move_to_end(ebnf)
        if len(self._known) > _GRAMMARS_REMEMBERED:
            self._known.popitem(last=False)


def _common_prefix(left: NDArray[np.int64], right: NDArray[np.int64]) -> int:
    shorter = min(len(left), len(right))
    different = left[:shorter] != right[:shorter]
    return int(different.argmax()) if different.any() else shorter


def _read(id: int, job: _Job) -> Output | None:
    ids: list[int] = []
    logprobs: list[float] = []
    finish = ""
    while job.handle.can_read():
        for output in job.handle.read().values():
            ids.extend(output.generated_ids)
            if job.start.logprobs:
                logprobs.extend(output.generated_log_probs)
            finish = _FINISHES.get(output.finish_reason, finish)
    if not finish and job.handle.get_status() != _RUNNING:
        finish = "stop"
    return Output(id, tuple(ids), finish, job.cached_tokens, tuple(logprobs)) if ids or finish else None


def _config(start: Start) -> Any:
    config = genai.GenerationConfig()
    config.max_new_tokens = start.max_tokens
    config.stop_token_ids = set(start.stop_ids)
    config.eos_token_id = min(start.stop_ids)
    config.do_sample = start.temperature > 0
    if config.do_sample:
        config.temperature, config.top_p, config.rng_seed = start.temperature, start.top_p, start.seed
    if start.logprobs:
        config.logprobs = 1
    if start.ebnf:
        config.structured_output_config = genai.StructuredOutputConfig(grammar=start.ebnf)
    return config


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    # OpenVINO puts the time and its own source file before what went wrong.
    return lines[-1].rpartition(".cc:")[2][:300] if lines else type(error).__name__


def build_pipeline(folder: Path, options: OpenVinoOptions) -> Any:
    """The pipeline of a converted model; raises RuntimeError."""
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = options.cache_gigabytes
    scheduler.enable_prefix_caching = True
    scheduler.max_num_batched_tokens = options.max_batched_tokens
    scheduler.max_num_seqs = options.max_batch
    scheduler.dynamic_split_fuse = True
    compute = _compute(options.compute)
    properties: dict[str, Any] = {"INFERENCE_PRECISION_HINT": compute, "KV_CACHE_PRECISION": compute}
    if options.threads:
        properties["INFERENCE_NUM_THREADS"] = options.threads
    return genai.ContinuousBatchingPipeline(str(folder), _vocabulary(folder), scheduler, "CPU", **properties)


def _vocabulary(folder: Path) -> Any:
    """The texts of the tokens, which grammars are made for, and the token that ends a turn where a grammar ends.

    Prompts come as ids: to load what reads them took as long as to load the model.
    """
    end = {"content": END_TURN, "special": True}
    config = {"eos_token": END_TURN, "added_tokens_decoder": {str(_end_of_turn(folder)): end}}
    with tempfile.TemporaryDirectory() as place:
        apart = Path(place)
        (apart / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        for file in ("openvino_detokenizer.xml", "openvino_detokenizer.bin"):
            (apart / file).symlink_to(folder.resolve() / file)
        return genai.Tokenizer(place)


def _end_of_turn(folder: Path) -> int:
    """The token's id, found without reading a vocabulary of megabytes as JSON."""
    entry = rf'"id":\s*(\d+),\s*"content":\s*"{END_TURN}"'.encode()
    found = re.search(entry, (folder / "tokenizer.json").read_bytes())
    if found is None:
        raise RuntimeError(f"the tokenizer does not know {END_TURN}")
    return int(found[1])


def _compute(wanted: str) -> str:
    if wanted != "fastest":
        return wanted
    return "bf16" if "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


def main() -> None:
    """Loads the model, says so, and works until the service is gone."""
    # Ctrl-C and a service manager's SIGTERM reach the whole group: the service drains, this one works on.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    connection = Connection(int(sys.argv[1]))
    try:
        load: Load = connection.recv()
    except (EOFError, OSError):
        return  # it was started ahead and never needed
    try:
        pipeline = build_pipeline(Path(load.folder), load.options)
    except Exception as error:
        connection.send(LoadFailed(_first_line(error)))
        return
    try:
        connection.send(Ready())
        Worker(pipeline, connection).run()
    except (EOFError, OSError):
        return  # the service ended, or closed this engine


if __name__ == "__main__":
    main()
