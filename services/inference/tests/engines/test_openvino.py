"""What only the openvino engine must bear: its process dies, a cold prefix is asked for many times at once."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from errand_common.errors import Unavailable
from errand_inference.domain.chat import ToolDeclaration
from errand_inference.domain.engine import Delta, EngineRequest, Finish
from errand_inference.domain.format import STOP_TOKENS
from errand_inference.domain.grammar import ToolChoice, build_grammar
from errand_inference.domain.parser import parse_turn
from errand_inference.engines import launch
from errand_inference.engines.openvino import OpenVinoEngine
from errand_inference.engines.wire import Load, OpenVinoOptions


@pytest.fixture
def engine(tiny_openvino: Path) -> Iterator[OpenVinoEngine]:
    made = OpenVinoEngine(tiny_openvino, precision="fp32", context_tokens=1024, options=OpenVinoOptions())
    yield made
    asyncio.run(made.close())


async def _tokens(engine: OpenVinoEngine, request: EngineRequest) -> int:
    return sum([delta.tokens async for delta in engine.generate(request)])


async def test_a_killed_engine_process_fails_what_it_had_and_is_started_again(engine: OpenVinoEngine) -> None:
    generation = engine.generate(EngineRequest("<bos>long", 900))
    await anext(generation)
    before = engine.worker_pid
    os.kill(before, signal.SIGKILL)
    with pytest.raises(Unavailable):
        async for _ in generation:
            pass
    async with asyncio.timeout(30):
        while True:
            try:
                assert await _tokens(engine, EngineRequest("<bos>again", 5)) == 5
                break
            except Unavailable:
                await asyncio.sleep(0.05)
    assert engine.worker_pid != before


async def test_the_event_loop_goes_on_while_a_long_prompt_is_read(engine: OpenVinoEngine) -> None:
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - began)

    watcher = asyncio.create_task(watch())
    await asyncio.gather(*(_tokens(engine, EngineRequest(f"<bos>{number} " + "ab " * 250, 20)) for number in range(16)))
    watcher.cancel()
    assert longest < 0.25


async def test_cancelling_frees_the_slot_at_once(engine: OpenVinoEngine) -> None:
    running = [engine.generate(EngineRequest(f"<bos>{number}", 900)) for number in range(64)]
    for generation in running:
        await anext(generation)
    for generation in running:
        await generation.aclose()
    began = time.monotonic()
    await _tokens(engine, EngineRequest("<bos>next", 1))
    assert time.monotonic() - began < 1.0


async def test_closing_fails_what_runs(tiny_openvino: Path) -> None:
    engine = await asyncio.to_thread(
        OpenVinoEngine, tiny_openvino, precision="fp32", context_tokens=1024, options=OpenVinoOptions()
    )
    generation = engine.generate(EngineRequest("<bos>long", 900))
    await anext(generation)
    await engine.close()
    with pytest.raises(Unavailable):
        async for _ in generation:
            pass
    with pytest.raises(Unavailable):
        await _tokens(engine, EngineRequest("<bos>x", 1))


def test_a_folder_that_is_no_model_is_refused_with_the_reason(tiny_openvino: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((tiny_openvino / "tokenizer.json").read_bytes())
    (tmp_path / "openvino_model.xml").write_text("<broken")
    with pytest.raises(RuntimeError, match=r"\w+"):
        OpenVinoEngine(tmp_path, precision="fp32", context_tokens=10, options=OpenVinoOptions())


def test_a_tokenizer_that_cannot_end_a_turn_is_refused_and_no_process_stays(
    tiny_openvino: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_openvino, tmp_path / "model"))
    tokenizer = folder / "tokenizer.json"
    text = tokenizer.read_text(encoding="utf-8")
    for number, token in enumerate(STOP_TOKENS):
        text = text.replace(token, f"<other{number}>")
    tokenizer.write_text(text, encoding="utf-8")
    before = _children()
    with pytest.raises(RuntimeError, match="knows none of"):
        OpenVinoEngine(folder, precision="fp32", context_tokens=1024, options=OpenVinoOptions())
    assert _children() <= before


def _started_ahead(load: Load | None) -> subprocess.Popen[bytes]:
    launch.start_ahead(load)
    (ahead,) = launch._ahead
    return ahead.process


@pytest.mark.parametrize("knows_the_model", [False, True])
async def test_a_process_that_was_started_ahead_is_the_first_that_is_used(
    tiny_openvino: Path, knows_the_model: bool
) -> None:
    ahead = _started_ahead(Load(str(tiny_openvino), OpenVinoOptions()) if knows_the_model else None)
    made = await asyncio.to_thread(
        OpenVinoEngine, tiny_openvino, precision="fp32", context_tokens=1024, options=OpenVinoOptions()
    )
    assert made.worker_pid == ahead.pid
    assert await _tokens(made, EngineRequest("<bos>hello", 3)) == 3
    await made.close()


async def test_a_process_that_loads_another_model_ahead_is_ended(tiny_openvino: Path) -> None:
    ahead = _started_ahead(Load(str(tiny_openvino), OpenVinoOptions(max_batch=3)))
    made = await asyncio.to_thread(
        OpenVinoEngine, tiny_openvino, precision="fp32", context_tokens=1024, options=OpenVinoOptions()
    )
    assert ahead.poll() is not None
    assert made.worker_pid != ahead.pid
    await made.close()


async def test_a_process_that_was_started_ahead_and_died_is_replaced(tiny_openvino: Path) -> None:
    ahead = _started_ahead(None)
    ahead.kill()
    ahead.wait()
    made = await asyncio.to_thread(
        OpenVinoEngine, tiny_openvino, precision="fp32", context_tokens=1024, options=OpenVinoOptions()
    )
    assert made.worker_pid != ahead.pid
    assert await _tokens(made, EngineRequest("<bos>hello", 3)) == 3
    await made.close()


def _children() -> set[str]:
    return {pid for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()}


async def test_computing_as_fast_as_the_processor_can_gives_text_too(tiny_openvino: Path) -> None:
    options = OpenVinoOptions(compute="fastest")
    engine = await asyncio.to_thread(
        OpenVinoEngine, tiny_openvino, precision="fp32", context_tokens=1024, options=options
    )
    assert await _tokens(engine, EngineRequest("<bos>hello", 5, streamed=False)) == 5
    await engine.close()


async def test_tokens_that_nobody_reads_along_are_told_some_at_a_time(engine: OpenVinoEngine) -> None:
    async def deltas(*, streamed: bool) -> list[Delta]:
        request = EngineRequest("<bos>long", 64, streamed=streamed)
        return [delta async for delta in engine.generate(request)]

    told, gathered = await deltas(streamed=True), await deltas(streamed=False)
    assert "".join(delta.text for delta in gathered) == "".join(delta.text for delta in told)
    assert sum(delta.tokens for delta in gathered) == 64
    assert gathered[0].tokens == 1
    assert len(gathered) < len(told) / 2


def _must_call(*names: str, **asked: int) -> EngineRequest:
    tools = [ToolDeclaration(name, "", {}) for name in names]
    grammar = build_grammar(tools, choice=ToolChoice.REQUIRED, single_call=True)
    return EngineRequest("<bos>long", 60, grammar=grammar, **asked)


async def test_what_the_grammar_forces_at_the_beginning_is_read_with_the_prompt(engine: OpenVinoEngine) -> None:
    """And it is told and counted as the rest is."""
    first, *others = [delta async for delta in engine.generate(_must_call("forecast", "forget", logprobs=True))]
    assert first.text.startswith("<start_function_call>call:for")
    told = [entry for delta in (first, *others) for entry in delta.logprobs]
    assert len(told) == sum(delta.tokens for delta in (first, *others))
    forced = told[: first.tokens - 1]
    assert "<start_function_call>call:forecast".startswith("".join(entry.token for entry in forced))
    assert {entry.logprob for entry in forced} == {0.0}
    assert first.prompt_tokens == engine.count_tokens(["<bos>long"])[0]
    call = parse_turn("".join(delta.text for delta in (first, *others)))
    assert call.calls[0].name in {"forecast", "forget"}
    assert others[-1].finish is Finish.STOP


@pytest.mark.parametrize("most", [1, 2, 5])
async def test_what_is_forced_counts_among_the_most_tokens(engine: OpenVinoEngine, most: int) -> None:
    deltas = [delta async for delta in engine.generate(replace(_must_call("forecast"), max_tokens=most))]
    assert sum(delta.tokens for delta in deltas) == most
    assert deltas[-1].finish is Finish.LENGTH
