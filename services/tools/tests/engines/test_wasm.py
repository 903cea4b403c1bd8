"""WebAssembly modules, made from their text form by the engine itself, and what hostile ones try."""

import asyncio
from collections.abc import Iterator

import pytest
from errand_tools.domain.tools import ToolError, ToolFailed, ToolTimedOut
from errand_tools.engines import wasm
from errand_tools.engines.wasm import WasmtimeEngine
from errand_tools.testing.wasm import ALLOC, MEMORY, RUN, SAME, module
from wasmtime import wat2wasm

KNOWN: dict[bytes, bytes] = {}


@pytest.fixture
def engine() -> Iterator[WasmtimeEngine]:
    with WasmtimeEngine() as engine:
        yield engine


async def run(engine: WasmtimeEngine, text: bytes, arguments: object = None, seconds: float = 5.0) -> object:
    known = KNOWN.get(text)
    binary = KNOWN[text] = known or await engine.compiled(text)
    return await engine.run(binary, str(hash(text)), 32, arguments or {}, seconds)  # type: ignore[arg-type]


async def test_a_module_is_given_the_arguments_as_json(engine: WasmtimeEngine) -> None:
    arguments = {"name": "Zoë", "numbers": [1, 2.5, None], "deep": {"a": True}}
    assert await run(engine, module(), arguments) == arguments


async def test_the_binary_form_is_taken_as_it_is(engine: WasmtimeEngine) -> None:
    binary = await engine.compiled(module())
    assert binary.startswith(b"\0asm")
    assert await engine.compiled(binary) == binary


async def test_calls_share_nothing(engine: WasmtimeEngine) -> None:
    # Counts its calls in a global and in memory, and answers the sum as one digit.
    body = """
      (global.set 0 (i32.add (global.get 0) (i32.const 1)))
      (i32.store8 (i32.const 9000) (i32.add (i32.load8_u (i32.const 9000)) (i32.const 1)))
      (i32.store8 (i32.const 500) (i32.add (i32.const 48) (i32.add (global.get 0) (i32.load8_u (i32.const 9000)))))
      (i64.or (i64.shl (i64.const 500) (i64.const 32)) (i64.const 1))"""
    text = module(body, more="(global (mut i32) (i32.const 0))")
    assert [await run(engine, text) for _ in range(3)] == [2, 2, 2]


async def test_calls_run_at_once(engine: WasmtimeEngine) -> None:
    # Compiled once, not twenty times beside each other.
    await run(engine, module())
    answers = await asyncio.gather(*(run(engine, module(), {"n": number}) for number in range(20)))
    assert answers == [{"n": number} for number in range(20)]


@pytest.mark.parametrize("seconds", [0.05, 0.3])
async def test_an_endless_loop_is_stopped(engine: WasmtimeEngine, seconds: float) -> None:
    text = module(f"(loop (br 0)) {SAME}")
    await run(engine, module())
    with pytest.raises(ToolTimedOut, match=f"longer than {seconds:g} seconds"):
        await run(engine, text, seconds=seconds)
    # And the thread is free again.
    assert await run(engine, module(), {"a": 1}) == {"a": 1}


async def test_what_computes_too_much_is_stopped_without_a_clock() -> None:
    with WasmtimeEngine(fuel=1_000_000) as engine, pytest.raises(ToolTimedOut):
        await run(engine, module(f"(loop (br 0)) {SAME}"), seconds=300)


async def test_a_loop_before_the_first_call_is_stopped(engine: WasmtimeEngine) -> None:
    text = module(more="(func $spin (loop (br 0))) (start $spin)")
    with pytest.raises(ToolTimedOut):
        await run(engine, text, seconds=0.1)


async def test_memory_does_not_grow_over_its_limit(engine: WasmtimeEngine) -> None:
    # Grows by a mebibyte until that fails, and tells how many there are.
    grow = """
      (loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
      (i32.store8 (i32.const 500) (i32.add (i32.const 48) (i32.div_u (memory.size) (i32.const 16))))
      (i64.or (i64.shl (i64.const 500) (i64.const 32)) (i64.const 1))"""
    binary = await engine.compiled(module(grow))
    assert await engine.run(binary, "grow", 8, {}, 5) == 7


@pytest.mark.parametrize(
    "text",
    [
        module(memory='(memory (export "memory") 60000)'),
        module(more="(table 100000000 funcref)"),
        module(more="(memory $other 1)").replace(b'(memory (export "memory") 2)', b'(memory (export "memory") 60000)'),
    ],
)
async def test_a_bomb_does_not_start(engine: WasmtimeEngine, text: bytes) -> None:
    with pytest.raises(ToolFailed):
        await run(engine, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "text cannot be read"),
        (b"\xff\xfe", "neither"),
        (b"\0asm\1\0\0\0garbage", "cannot be read"),
        (b"\0asm", "cannot be read"),
        (b"(module)", "export its memory"),
        (f"(module {MEMORY})".encode(), "export the function alloc"),
        (f"(module {MEMORY} {ALLOC})".encode(), "export the function run: \\(i32, i32\\) -> i64"),
        (module(alloc=ALLOC.replace("(result i32)", "(result i64)").replace("i32.const", "i64.const")), "alloc"),
        (module(more='(import "wasi_snapshot_preview1" "fd_write" (func (param i32)))'), "import"),
        (
            f'(module (import "env" "open" (func)) {MEMORY} {ALLOC} {RUN} {SAME}))'.encode(),
            "imports env.open, and nothing is granted",
        ),
        (f'(module (import "env" "memory" (memory 1)) {ALLOC} {RUN} {SAME}))'.encode(), "imports env.memory"),
        (module(memory='(memory (export "memory") i64 1)'), "cannot be read"),
        (module(memory='(memory (export "memory") 1 2 shared)'), "cannot be read"),
        (b"\0asm\1\0\0\0" + b"\0" * (wasm.MAX_MODULE_BYTES + 1), "larger than"),
        (b"(" * 200_000, "cannot be read"),
    ],
)
async def test_what_is_no_tool_is_refused(engine: WasmtimeEngine, text: bytes, words: str) -> None:
    with pytest.raises(ToolFailed, match=words):
        await engine.compiled(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (module("unreachable"), "unreachable"),
        (module("(i64.const -1)"), "larger than"),
        (module("(i64.or (i64.shl (i64.const 4294967295) (i64.const 32)) (i64.const 8))"), "outside its memory"),
        (module("(i64.or (i64.shl (i64.const 131071) (i64.const 32)) (i64.const 2))"), "outside its memory"),
        (module(alloc=ALLOC.replace("1024", "-1")), "outside its memory"),
        (module("(i64.load (i32.const -8))"), "out of bounds"),
        (module("(i64.const 0)"), "no JSON"),
        (module("(i64.div_u (i64.const 1) (i64.const 0))"), "by zero"),
        (module("(call $again) (i64.const 0)", more="(func $again (call $again))"), "stack overflow"),
        (module("(call_indirect (i32.const 5)) (i64.const 0)", more="(table 9 funcref)"), "indirect"),
    ],
)  # fmt: skip
async def test_a_module_that_breaks_off_is_told(engine: WasmtimeEngine, text: bytes, words: str) -> None:
    with pytest.raises(ToolFailed, match=words):
        await run(engine, text)
    assert await run(engine, module(), {"a": 1}) == {"a": 1}


async def test_a_deep_result_is_no_json(engine: WasmtimeEngine) -> None:
    # Fills the memory's first page with '[' and gives it back.
    body = """
      (memory.fill (i32.const 0) (i32.const 91) (i32.const 65536))
      (i64.const 65536)"""
    with pytest.raises(ToolFailed, match="no JSON"):
        await run(engine, module(body))


async def test_large_arguments_need_a_memory_that_holds_them(engine: WasmtimeEngine) -> None:
    with pytest.raises(ToolError, match="outside its memory"):
        await run(engine, module(), {"a": "x" * 200_000})


async def test_compiling_keeps_nobody_waiting(engine: WasmtimeEngine) -> None:
    await run(engine, module())
    one = f"(func (result i32) {'(i32.add (i32.const 1) ' * 50}(i32.const 1){')' * 50})"
    compiling = asyncio.create_task(engine.compiled(module(more=one * 2_000)))
    for _ in range(20):
        assert await run(engine, module(), {"a": 1}) == {"a": 1}
    assert (await compiling).startswith(b"\0asm")


BOMBS = {
    # Each takes a compiler minutes, for reasons of its own.
    "blocks": "(func (param i32) " + "(block (br_if 0 (local.get 0)))" * 200_000 + ")",
    "loops": "(func (param i32) (local " + "i64 " * 1000 + ")" + "(loop " * 900
    + "".join(f"(local.set {i} (i64.add (local.get {i}) (local.get {i + 1})))" for i in range(1, 900))
    + "(br_if 0 (local.get 0)))" * 900 + ")",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
async def test_a_compiler_is_not_kept_busy(engine: WasmtimeEngine, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wasm, "_COMPILE_SECONDS", 3.0)
    with pytest.raises(ToolFailed, match="too long"):
        await engine.compiled(wat2wasm(module(more=BOMBS[name]).decode()))
    monkeypatch.undo()
    assert await run(engine, module(), {"a": 1}) == {"a": 1}


async def test_the_compiler_is_given_no_keys(engine: WasmtimeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []
    start = asyncio.create_subprocess_exec

    async def started(*command: str, env: dict[str, str], **more: int) -> asyncio.subprocess.Process:
        seen.append(env)
        return await start(*command, env=env, **more)  # type: ignore[arg-type]

    monkeypatch.setenv("ERRAND_TOOLS_SECRET_KEYS", "hidden")
    monkeypatch.setattr(asyncio, "create_subprocess_exec", started)
    await engine.compiled(module())
    assert seen
    assert all(set(environment) <= {"PATH", "PYTHONPATH"} for environment in seen)
