"""WebAssembly modules: instances without imports, bounded in fuel, memory, stack, tables and time.

Compiling is bounded too: some lines make a compiler work for minutes, so it does in a process of its own.

A module exports `memory`, `alloc(length) -> pointer` and `run(pointer, length) -> pointer << 32 | length`. It is given
the arguments and gives the result, both as JSON in UTF-8. Each call has an instance of its own, which nothing outlives.
"""

import asyncio
import json
import os
import resource
import sys
import threading
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

from wasmtime import (
    Config,
    Engine,
    Func,
    FuncType,
    Instance,
    Memory,
    MemoryType,
    Module,
    Store,
    Trap,
    TrapCode,
    ValType,
    WasmtimeError,
    wat2wasm,
)

from errand_tools.domain.tools import JsonObject, ToolFailed, ToolTimedOut

MAX_MODULE_BYTES: Final = 2 * 1024 * 1024
MAX_RESULT_BYTES: Final = 1024 * 1024
# Instructions of one call, some seconds of work: what spins is stopped even where the clock stands still.
FUEL: Final = 5_000_000_000
_STACK_BYTES: Final = 256 * 1024
_TABLE_ELEMENTS: Final = 10_000
_TICK_SECONDS: Final = 0.01
_KEPT_MODULES: Final = 32
_PAGE_BYTES: Final = 65_536
_COMPILE_SECONDS: Final = 60.0
_COMPILE_CPU_SECONDS: Final = 10
_COMPILE_BYTES: Final = 2 * 1024 * 1024 * 1024
_REFUSED: Final = 3
_EXPORTS: Final = {
    "alloc": FuncType([ValType.i32()], [ValType.i32()]),
    "run": FuncType([ValType.i32(), ValType.i32()], [ValType.i64()]),
}


class WasmtimeEngine:
    """Compiles and runs modules on threads of its own; a context manager."""

    def __init__(self, *, threads: int = 2, fuel: int = FUEL) -> None:
        self._engine = Engine(_config())
        self._fuel = fuel
        self._threads = ThreadPoolExecutor(threads, "wasm")
        # One at a time: compiling takes the most memory.
        self._compiling = asyncio.Semaphore(1)
        self._modules: OrderedDict[str, Module] = OrderedDict()
        self._ticker = _Ticker(self._engine)

    def __enter__(self) -> "WasmtimeEngine":
        return self

    def __exit__(self, *exception: object) -> None:
        self._ticker.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def compiled(self, module: bytes) -> bytes:
        """The binary form of a module in binary or text form. Raises ToolFailed for what cannot be a tool."""
        binary, ready = await self._compile(module)
        _check(ready)
        return binary

    async def run(self, binary: bytes, sha256: str, memory_mib: int, arguments: JsonObject, seconds: float) -> Any:
        """What the module makes of the arguments. Raises ToolFailed, ToolTimedOut."""
        loop = asyncio.get_running_loop()
        module = self._modules.get(sha256)
        if module is None:
            _, module = await self._compile(binary)
            self._keep(sha256, module)
        self._modules.move_to_end(sha256)
        data = json.dumps(arguments, ensure_ascii=False).encode()
        answer = await loop.run_in_executor(self._threads, self._call, module, memory_mib, data, seconds)
        try:
            return json.loads(answer)
        except (ValueError, RecursionError):
            raise ToolFailed("The module's result is no JSON in UTF-8.") from None

    def _keep(self, sha256: str, module: Module) -> None:
        self._modules[sha256] = module
        while len(self._modules) > _KEPT_MODULES:
            self._modules.popitem(last=False)

    async def _compile(self, given: bytes) -> tuple[bytes, Module]:
        """The binary form, and the module ready to run. Raises ToolFailed."""
        async with self._compiling:
            told = await _in_a_process(given)
        size = int.from_bytes(told[:4], "big")
        binary, code = told[4 : 4 + size], told[4 + size :]
        loop = asyncio.get_running_loop()
        # Only our own process's output is taken for code.
        return binary, await loop.run_in_executor(self._threads, Module.deserialize, self._engine, code)

    def _call(self, module: Module, memory_mib: int, data: bytes, seconds: float) -> bytes:
        with self._ticker.running(), _told_traps(seconds):
            store = Store(self._engine)
            store.set_limits(
                memory_size=memory_mib * 1024 * 1024,
                table_elements=_TABLE_ELEMENTS,
                instances=1,
                tables=4,
                memories=1,
            )
            store.set_fuel(self._fuel)
            store.set_epoch_deadline(max(1, int(seconds / _TICK_SECONDS)))
            return _Guest(store, module).answer(data)


class _Guest:
    """One instance of a module."""

    def __init__(self, store: Store, module: Module) -> None:
        exports = Instance(store, module, []).exports(store)
        self._store = store
        self._memory: Memory = exports["memory"]  # type: ignore[assignment]
        self._alloc: Func = exports["alloc"]  # type: ignore[assignment]
        self._run: Func = exports["run"]  # type: ignore[assignment]

    def answer(self, data: bytes) -> bytes:
        """What `run` gives for these bytes. Raises ToolFailed for a place outside the memory."""
        place = self._alloc(self._store, len(data)) & 0xFFFFFFFF
        self._check(place, len(data))
        self._memory.write(self._store, data, place)
        packed = self._run(self._store, place, len(data)) & 0xFFFFFFFFFFFFFFFF
        start, length = packed >> 32, packed & 0xFFFFFFFF
        if length > MAX_RESULT_BYTES:
            raise ToolFailed(f"The module's result is larger than {MAX_RESULT_BYTES} bytes.")
        self._check(start, length)
        return bytes(self._memory.read(self._store, start, start + length))

    def _check(self, start: int, length: int) -> None:
        if start + length > self._memory.data_len(self._store):
            raise ToolFailed("The module names a place outside its memory.")


class _Ticker:
    """Moves the engine's clock on while calls run."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._running = 0
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._tick, name="wasm-clock", daemon=True)
        self._thread.start()

    @contextmanager
    def running(self) -> Iterator[None]:
        """The clock moves within the block."""
        with self._changed:
            self._running += 1
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1

    def close(self) -> None:
        """Ends the thread; what still runs is stopped by its deadline first."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=1)

    def _tick(self) -> None:
        while True:
            with self._changed:
                while not self._running and not self._closed:
                    self._changed.wait()
                if self._closed and not self._running:
                    return
            started, ticks = time.monotonic(), 0
            while self._running:
                time.sleep(_TICK_SECONDS)
                # A thread that was kept waiting catches up, or the calls would have longer than they may.
                while ticks * _TICK_SECONDS < time.monotonic() - started:
                    self._engine.increment_epoch()
                    ticks += 1


def _check(module: Module) -> None:
    if module.imports:
        names = ", ".join(f"{one.module}.{one.name}" for one in module.imports[:5])
        raise ToolFailed(f"The module imports {names}, and nothing is granted; build it without imports.")
    exported = {export.name: export.type for export in module.exports}
    if not isinstance(exported.get("memory"), MemoryType):
        raise ToolFailed("The module must export its memory as 'memory'.")
    for name, wanted in _EXPORTS.items():
        if _signature(exported.get(name)) != _signature(wanted):
            raise ToolFailed(f"The module must export the function {name}: {_told(wanted)}.")


async def _in_a_process(given: bytes) -> bytes:
    """What `main` tells of a module. Raises ToolFailed."""
    # Nothing of this process's environment, where keys may be, goes with it.
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "errand_tools.engines.wasm"), stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment
    )
    try:
        async with asyncio.timeout(_COMPILE_SECONDS):
            told, _ = await process.communicate(given)
    except TimeoutError:
        raise ToolFailed("The module takes too long to compile.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == _REFUSED:
        raise ToolFailed(told.decode(errors="replace")[:500])
    if process.returncode != 0:
        raise ToolFailed("The module takes too long or too much memory to compile.")
    return told


def main() -> None:
    """Compiles the module that stands on the input, within limits of its own: its binary form and its code."""
    resource.setrlimit(resource.RLIMIT_CPU, (_COMPILE_CPU_SECONDS, _COMPILE_CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_COMPILE_BYTES, _COMPILE_BYTES))
    try:
        binary = _binary(sys.stdin.buffer.read())
        code = Module(Engine(_config()), binary).serialize()
    except (ToolFailed, WasmtimeError) as error:
        reason = error.message if isinstance(error, ToolFailed) else _unread(error)
        sys.stdout.buffer.write(reason.encode())
        sys.exit(_REFUSED)
    sys.stdout.buffer.write(len(binary).to_bytes(4, "big") + binary + bytes(code))


def _unread(error: WasmtimeError) -> str:
    return f"The module cannot be read: {_first_line(error)}."


def _config() -> Config:
    config = Config()
    config.consume_fuel = True
    config.epoch_interruption = True
    config.max_wasm_stack = _STACK_BYTES
    config.wasm_threads = False
    config.wasm_memory64 = False
    config.wasm_multi_memory = False
    config.wasm_exceptions = False
    config.parallel_compilation = False
    # Checks are written out, so that no handler of signals is put into this process.
    config.signals_based_traps = False
    config.memory_reservation = 0
    config.memory_guard_size = 0
    return config


def _binary(given: bytes) -> bytes:
    if given.startswith(b"\0asm"):
        binary = given
    else:
        try:
            binary = bytes(wat2wasm(given.decode()))
        except UnicodeDecodeError:
            raise ToolFailed("The module is neither WebAssembly nor its text form.") from None
        except WasmtimeError as error:
            raise ToolFailed(f"The module's text cannot be read: {_first_line(error)}.") from None
    if len(binary) > MAX_MODULE_BYTES:
        raise ToolFailed(f"The module is larger than {MAX_MODULE_BYTES} bytes.")
    return binary


@contextmanager
def _told_traps(seconds: float) -> Iterator[None]:
    try:
        yield
    except Trap as trap:
        raise _stopped(trap, seconds) from None
    except WasmtimeError as error:
        raise ToolFailed(f"The module cannot run within its limits: {_first_line(error)}.") from None


def _stopped(trap: Trap, seconds: float) -> Exception:
    if trap.trap_code in (TrapCode.INTERRUPT, TrapCode.OUT_OF_FUEL):
        return ToolTimedOut(f"The module ran longer than {seconds:g} seconds or computed too much, and was stopped.")
    code = trap.trap_code
    return ToolFailed(f"The module broke off: {code.name.lower().replace('_', ' ') if code else 'trap'}.")


def _signature(kind: object) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    if not isinstance(kind, FuncType):
        return None
    return tuple(map(str, kind.params)), tuple(map(str, kind.results))


def _told(kind: FuncType) -> str:
    return f"({', '.join(map(str, kind.params))}) -> {', '.join(map(str, kind.results))}"


def _first_line(error: WasmtimeError) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0][:200].rstrip(".")


if __name__ == "__main__":
    main()
