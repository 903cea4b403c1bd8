"""Calls that are sent again: only by tools that say so, and only where nothing can happen twice."""

import asyncio
from typing import Any

import pytest
from errand_tools.domain import execution
from errand_tools.domain.tools import (
    ExecutionStatus,
    OutcomeUnknown,
    RetryClass,
    ServiceDown,
    SideEffect,
    ToolDenied,
    ToolFailed,
    ToolLimits,
    ToolTimedOut,
)
from errand_tools.testing.bench import ToolBench, error, hang

ANSWER = {"status": 200, "body": {"ok": True}}
LOST = OutcomeUnknown("The answer was lost.", status=ExecutionStatus.FAILED)
DOWN = ServiceDown("It is down.")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ToolBench:
    monkeypatch.setattr(execution, "_PAUSES", (0.0, 0.0))
    return ToolBench()


@pytest.mark.parametrize("side_effect", SideEffect)
async def test_what_surely_did_nothing_is_sent_again(bench: ToolBench, side_effect: SideEffect) -> None:
    await bench.add("send", side_effect, retry=RetryClass.TRANSIENT)
    bench.http.behaviours["send"] = [DOWN, DOWN, ANSWER]
    assert (await bench.run("send")).status is ExecutionStatus.SUCCEEDED
    assert bench.http.count("send") == 3


@pytest.mark.parametrize(
    ("side_effect", "sent"),
    [(SideEffect.NONE, 2), (SideEffect.IDEMPOTENT, 2), (SideEffect.RECONCILE, 1), (SideEffect.ASK, 1)],
)
async def test_a_lost_answer_is_asked_for_again_only_where_it_may_be_done_twice(
    bench: ToolBench, side_effect: SideEffect, sent: int
) -> None:
    await bench.add("send", side_effect, retry=RetryClass.TRANSIENT)
    bench.http.behaviours["send"] = [LOST, ANSWER]
    await bench.run("send")
    assert bench.http.count("send") == sent
    keys = {key for _, _, key in bench.http.calls if key}
    assert len(keys) == (side_effect is SideEffect.IDEMPOTENT), "each try has the same key"


@pytest.mark.parametrize("raised", [ToolFailed("No."), ToolDenied("No."), ToolTimedOut("Late.")])
async def test_an_answer_is_an_answer(bench: ToolBench, raised: Exception) -> None:
    await bench.add("send", retry=RetryClass.TRANSIENT)
    bench.http.behaviours["send"] = [raised, ANSWER]
    assert (await bench.run("send")).status is not ExecutionStatus.SUCCEEDED
    assert bench.http.count("send") == 1


async def test_three_times_is_all_and_a_tool_that_does_not_ask_for_it_is_tried_once(bench: ToolBench) -> None:
    await bench.add("send", retry=RetryClass.TRANSIENT)
    await bench.add("look")
    bench.http.behaviours["send"] = bench.http.behaviours["look"] = DOWN
    assert error(await bench.run("send")) == "It is down."
    await bench.run("look", index=1)
    assert (bench.http.count("send"), bench.http.count("look")) == (3, 1)


async def test_all_tries_have_the_time_of_one(bench: ToolBench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.add("send", retry=RetryClass.TRANSIENT, timeout_ms=50)
    bench.http.behaviours["send"] = hang
    assert (await bench.run("send")).status is ExecutionStatus.TIMED_OUT
    assert bench.http.count("send") == 1, "the limit was spent"

    # A pause that would end after the limit is not begun.
    monkeypatch.setattr(execution, "_PAUSES", (60.0,))
    bench.http.behaviours["send"] = DOWN
    async with asyncio.timeout(30):
        assert error(await bench.run("send", index=1)) == "It is down."


async def test_each_try_counts_for_the_tool_s_own_rate(bench: ToolBench) -> None:
    await bench.add("send", retry=RetryClass.TRANSIENT, limits=ToolLimits(calls_per_minute=2))
    bench.http.behaviours["send"] = DOWN
    outcome: Any = await bench.run("send")
    assert "2 times a minute" in error(outcome)
    assert bench.http.count("send") == 2
