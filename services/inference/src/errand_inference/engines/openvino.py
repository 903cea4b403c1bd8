"""OpenVINO GenAI on a CPU: continuous batching with paged KV cache, prefix cache and int8 weights.

The pipeline lives in a process of its own (openvino_worker.py says why). A worker that dies fails the
generations it had and is started again; the service stays.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import subprocess
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import structlog
from errand_common.errors import ErrandError, InvalidArgument, Unavailable
from tokenizers import Tokenizer

from errand_inference.domain.dialects import to_ebnf
from errand_inference.domain.engine import Capability, Delta, EngineRequest, Finish, room_for
from errand_inference.domain.grammar import Grammar
from errand_inference.domain.opening import after, opening
from errand_inference.engines.decoding import DeltaReader
from errand_inference.engines.encoding import PromptTokenizer
from errand_inference.engines.launch import launch
from errand_inference.engines.wire import (
    Cancel,
    Command,
    Ending,
    Event,
    Failed,
    LoadFailed,
    OpenVinoOptions,
    Start,
)

_LOADING_SECONDS = 300.0
_CLOSING_SECONDS = 5.0
_RESTARTS_SECONDS = (0.0, 1.0, 4.0)
_REJECTIONS_KEPT = 256
_PROCESS_ENDED = "the engine process ended"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Where a generation's events go."""

    loop: asyncio.AbstractEventLoop
    output: asyncio.Queue[Event]


def _deliver(told: Sequence[tuple[_Reader, Event]]) -> None:
    """Wakes each loop once for all that a step brought: a wake-up for each would cost more than the rest."""
    for loop in {reader.loop for reader, _ in told}:
        if not loop.is_closed():
            mine = [(reader.output, event) for reader, event in told if reader.loop is loop]
            loop.call_soon_threadsafe(_put_all, mine)


def _put_all(events: Sequence[tuple[asyncio.Queue[Event], Event]]) -> None:
    for output, event in events:
        output.put_nowait(event)


class _Worker:
    """The engine process and the two threads that talk to it."""

    def __init__(self, folder: Path, options: OpenVinoOptions) -> None:
        self._folder, self._options = folder, options
        self._readers: dict[int, _Reader] = {}
        self._lock = threading.Lock()
        self._commands: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._sent: set[int] = set()
        # Set while the process works; commands wait for it to be started again.
        self._up = threading.Event()
        self._ending = False
        self._threads: list[threading.Thread] = []
        self._process, self._connection = launch(self._folder, self._options)

    def wait_until_loaded(self) -> None:
        """Before it the process takes no work. Raises RuntimeError with the reason when it cannot load the model."""
        _check_loaded(self._process, self._connection)
        self._up.set()
        self._threads = [
            threading.Thread(target=work, name=f"openvino-{name}", daemon=True)
            for name, work in (("events", self._receive), ("commands", self._send))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return not self._ending

    def start(self, start: Start, reader: _Reader) -> None:
        with self._lock:
            if self._ending:
                raise Unavailable("model", "The model is being unloaded.")
            self._readers[start.id] = reader
        self._commands.put(start)

    def cancel(self, id: int) -> None:
        with self._lock:
            running = self._readers.pop(id, None) is not None
            self._sent.discard(id)
        if running:
            self._commands.put(Cancel(id))

    def _send(self) -> None:
        """A thread of its own: the pipe may be full while the worker computes."""
        while (command := self._commands.get()) is not None:
            self._up.wait()
            if isinstance(command, Start) and not self._note_sent(command.id):
                continue
            try:
                self._connection.send(command)
            except OSError:
                self._give([Failed(command.id, _PROCESS_ENDED)])

    def _note_sent(self, id: int) -> bool:
        """False when the caller has gone meanwhile."""
        with self._lock:
            wanted = id in self._readers
            if wanted:
                self._sent.add(id)
            return wanted

    def _receive(self) -> None:
        while True:
            try:
                received: list[Event | Ending] = self._connection.recv()
            except (EOFError, OSError):
                if self._ending or not self._restart():
                    return
                continue
            events = [event for event in received if not isinstance(event, Ending)]
            if len(events) < len(received):
                # Before anyone is told: who asks again at once must wait for the next process.
                self._up.clear()
            self._give(events)

    def _give(self, events: Sequence[Event]) -> None:
        told: list[tuple[_Reader, Event]] = []
        with self._lock:
            for event in events:
                over = isinstance(event, Failed) or bool(event.finish)
                reader = self._readers.pop(event.id, None) if over else self._readers.get(event.id)
                if over:
                    self._sent.discard(event.id)
                if reader is not None:
                    told.append((reader, event))
        _deliver(told)

    def _restart(self) -> bool:
        self._up.clear()
        status = self._process.wait()
        _log.error("engine process ended; starting it again", exit_status=status)
        with self._lock:
            lost, self._sent = self._sent, set()
        self._give([Failed(id, _PROCESS_ENDED) for id in lost])
        try:
            return self._start_again()
        finally:
            self._up.set()

    def _start_again(self) -> bool:
        for pause_seconds in _RESTARTS_SECONDS:
            time.sleep(pause_seconds)
            if self._ending:
                return False
            try:
                launched = launch(self._folder, self._options)
                _check_loaded(*launched)
            except (RuntimeError, OSError) as error:
                _log.error("engine process did not start", error=str(error))
            else:
                self._process, self._connection = launched
                return True
        with self._lock:
            self._ending = True
        self._fail_all("the engine process cannot be started")
        return False

    def _fail_all(self, message: str) -> None:
        with self._lock:
            failed, self._readers = self._readers, {}
        _deliver([(reader, Failed(id, message)) for id, reader in failed.items()])

    def close(self) -> None:
        with self._lock:
            self._ending = True
        self._commands.put(None)
        self._process.kill()  # it holds nothing that must be saved
        self._process.wait()
        for thread in self._threads:
            thread.join(_CLOSING_SECONDS)
        self._connection.close()
        self._fail_all("the model is being unloaded")


def _check_loaded(process: subprocess.Popen[bytes], connection: Connection) -> None:
    """Waits until the process has loaded; ends it and raises RuntimeError with its reason when it has not."""
    try:
        first = connection.recv() if connection.poll(_LOADING_SECONDS) else LoadFailed("loading took too long")
    except (EOFError, OSError):
        first = LoadFailed("the engine process ended while loading")
    if not isinstance(first, LoadFailed):
        return
    connection.close()
    process.kill()
    process.wait()
    raise RuntimeError(first.message)


class OpenVinoEngine:
    """Serves a model folder converted to OpenVINO."""

    name = "openvino"
    capabilities = frozenset(
        {
            Capability.GRAMMAR,
            Capability.STREAMING,
            Capability.CONTINUOUS_BATCHING,
            Capability.PREFIX_CACHE,
            Capability.LOGPROBS,
            Capability.EXACT_TOKENS,
        }
    )

    def __init__(self, folder: Path, *, precision: str, context_tokens: int, options: OpenVinoOptions) -> None:
        """Loads the model (blocking); raises RuntimeError when it cannot be loaded."""
        self.precision, self.context_tokens = precision, context_tokens
        self._numbers = itertools.count()
        self._rejected: OrderedDict[str, str] = OrderedDict()
        # The two take about as long, and each has a processor.
        self._worker = _Worker(folder, options)
        try:
            self._tokenizer = PromptTokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")))
            self._stop_ids = self._tokenizer.stop_ids()
            self._worker.wait_until_loaded()
        except BaseException:
            self._worker.close()
            raise

    @property
    def worker_pid(self) -> int:
        """Process id of the engine process."""
        return self._worker.pid

    @property
    def is_alive(self) -> bool:
        """False once the engine process could not be started again."""
        return self._worker.is_alive

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        return self._tokenizer.count(texts)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[Delta, None]:
        """Raises InvalidArgument when the prompt leaves no room or the grammar is not accepted."""
        ids = await self._tokenizer.ids(request.prompt)
        start, begun = self._start(request, ids)
        if start.ebnf in self._rejected:
            raise _rejection(self._rejected[start.ebnf])
        reader = _Reader(asyncio.get_running_loop(), asyncio.Queue())
        deltas = DeltaReader(self._tokenizer, request.stop, len(ids))
        self._worker.start(start, reader)
        try:
            while True:
                event = await reader.output.get()
                if isinstance(event, Failed):
                    raise self._error(event, start.ebnf)
                finish = Finish(event.finish) if event.finish else None
                # What is forced is certain.
                logprobs = [0.0] * len(begun) + [*event.logprobs] if request.logprobs else ()
                delta = deltas.delta((*begun, *event.ids), finish, cached_tokens=event.cached_tokens, logprobs=logprobs)
                begun = ()
                yield delta
                if delta.finish:
                    return
        finally:
            self._worker.cancel(start.id)

    def _start(self, request: EngineRequest, ids: list[int]) -> tuple[Start, tuple[int, ...]]:
        """What the process is asked, and the tokens that the turn begins with: they are read with the prompt."""
        room = room_for(request, len(ids), self.context_tokens)
        begun, grammar = self._begun(request.grammar, room)
        start = Start(
            id=next(self._numbers),
            prompt_ids=(*ids, *begun),
            stop_ids=self._stop_ids,
            max_tokens=room - len(begun),
            temperature=request.temperature,
            top_p=request.top_p,
            seed=(request.seed or 0) % 2**31,
            ebnf=to_ebnf(grammar) if grammar else "",
            streamed=request.streamed,
            logprobs=request.logprobs,
        )
        return start, begun

    def _begun(self, grammar: Grammar | None, room: int) -> tuple[tuple[int, ...], Grammar | None]:
        """The tokens that a grammar leaves no choice about at the beginning, and the grammar of what follows."""
        ids = self._tokenizer.opening(opening(grammar).text, room - 1) if grammar else []
        rest = after(grammar, self._tokenizer.decode(ids)) if grammar and ids else None
        return (tuple(ids), rest) if rest else ((), grammar)

    def _error(self, event: Failed, ebnf: str) -> ErrandError:
        if not event.rejected:
            return Unavailable("model", f"The generation failed: {event.message}.")
        # Asked again it would end the engine process again.
        self._rejected[ebnf] = event.message
        if len(self._rejected) > _REJECTIONS_KEPT:
            self._rejected.popitem(last=False)
        return _rejection(event.message)

    async def close(self) -> None:
        """Ends the process; running generations fail with Unavailable."""
        await asyncio.to_thread(self._worker.close)


def _rejection(message: str) -> InvalidArgument:
    return InvalidArgument(f"tools: the grammar of this request is not accepted ({message}).", field="tools")
