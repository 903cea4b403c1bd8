"""What only the transformers engine must bear: rows that come and go, text that is forced, a step that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from errand_common.errors import Unavailable
from errand_inference.domain.engine import EngineRequest
from errand_inference.domain.grammar import build_json_grammar
from errand_inference.engines.transformers import TransformersEngine

SENTENCE = "A text that is not a matter of choice, letter by letter."


@pytest.fixture
async def engine(tiny_model: Path) -> AsyncIterator[TransformersEngine]:
    made = await asyncio.to_thread(TransformersEngine, tiny_model, context_tokens=1024, threads=1)
    yield made
    await made.close()


@pytest.fixture
def steps(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes (rows, tokens) of what the model was given."""
    seen: list[tuple[int, ...]] = []
    model = engine._batch._model

    def forward(**inputs: Any) -> Any:
        seen.append(tuple(inputs["input_ids"].shape))
        return model(**inputs)

    monkeypatch.setattr(engine._batch, "_model", forward)
    return seen


async def said(engine: TransformersEngine, request: EngineRequest) -> str:
    return "".join([delta.text async for delta in engine.generate(request)])


async def test_rows_of_any_length_join_and_leave_without_changing_each_other(
    engine: TransformersEngine, steps: list[tuple[int, ...]]
) -> None:
    requests = [EngineRequest("<bos>" + "word " * (3 * number + 1), 5 + 7 * number) for number in range(6)]
    alone = [await said(engine, request) for request in requests]
    steps.clear()
    first = engine.generate(EngineRequest("<bos>long", 120))
    await anext(first)
    # The long one is running: the others join it, one after the other, and leave it behind.
    together = []
    for request in requests:
        together.append(asyncio.create_task(said(engine, request)))
        await anext(first)
    assert await asyncio.gather(*together) == alone
    await first.aclose()
    assert max(rows for rows, _ in steps) > 3


async def test_what_the_grammar_forces_is_not_drawn_token_by_token(
    engine: TransformersEngine, steps: list[tuple[int, ...]]
) -> None:
    request = EngineRequest("<bos>json", 200, grammar=build_json_grammar({"const": SENTENCE}))
    assert await said(engine, request) == f'"{SENTENCE}"'
    (_, *after) = steps
    assert len(after) < 5 < sum(tokens for _, tokens in after)


async def test_a_row_that_must_choose_keeps_its_pace_beside_one_that_is_forced(engine: TransformersEngine) -> None:
    forced = EngineRequest("<bos>json", 200, grammar=build_json_grammar({"const": SENTENCE}))
    free = EngineRequest("<bos>free", 30)
    alone = await said(engine, free)
    assert await asyncio.gather(said(engine, forced), said(engine, free)) == [f'"{SENTENCE}"', alone]


async def test_a_step_that_fails_fails_what_runs_and_the_next_is_served(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: Any) -> Any:
        raise RuntimeError("out of memory\nand more")

    with monkeypatch.context() as patched:
        patched.setattr(engine._batch, "_model", broken)
        with pytest.raises(Unavailable, match=r"out of memory\.$"):
            await said(engine, EngineRequest("<bos>x", 5))
    assert await said(engine, EngineRequest("<bos>x", 5))


async def test_closing_fails_what_runs(engine: TransformersEngine) -> None:
    running = engine.generate(EngineRequest("<bos>long", 900))
    await anext(running)
    await engine.close()
    with pytest.raises(Unavailable, match="unloaded"):
        async for _ in running:
            pass
    with pytest.raises(Unavailable, match="unloaded"):
        await said(engine, EngineRequest("<bos>x", 1))
