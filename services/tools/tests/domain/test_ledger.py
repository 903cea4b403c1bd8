"""Effects happen once, whatever is lost."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from errand_common.errors import Conflict
from errand_tools.domain.effects import EffectFilter, EffectState
from errand_tools.domain.ports import Page
from errand_tools.domain.tools import (
    ExecutionStatus,
    Outcome,
    OutcomeUnknown,
    ServiceDown,
    SideEffect,
    ToolFailed,
    ToolNotFound,
)
from errand_tools.testing import InMemoryEffectStore
from errand_tools.testing.bench import ToolBench, error, hang

UNKNOWN = OutcomeUnknown("The connection to the service failed.", status=ExecutionStatus.FAILED)


@pytest.fixture
def bench() -> ToolBench:
    return ToolBench()


class TestLedger:
    @pytest.mark.parametrize("side_effect", [SideEffect.IDEMPOTENT, SideEffect.RECONCILE, SideEffect.ASK])
    async def test_a_replay_gets_the_stored_outcome(self, bench: ToolBench, side_effect: SideEffect) -> None:
        await bench.add("send", side_effect)
        first = await bench.run("send")
        bench.restart()
        second = await bench.run("send")
        assert second == replace(first, replayed=True)
        assert first.effect_id.startswith("eff_")
        assert bench.http.count("send") == 1

    async def test_without_side_effect_it_runs_again(self, bench: ToolBench) -> None:
        await bench.add("send")
        await bench.run("send")
        outcome = await bench.run("send")
        assert not outcome.replayed
        assert bench.http.count("send") == 2

    async def test_failures_are_replayed_too(self, bench: ToolBench) -> None:
        await bench.add("send", SideEffect.ASK)
        bench.http.behaviours["send"] = ToolFailed("No such address.")
        await bench.run("send")
        outcome = await bench.run("send")
        assert (outcome.status, outcome.replayed) == (ExecutionStatus.FAILED, True)
        assert bench.http.count("send") == 1

    async def test_other_arguments_are_a_conflict(self, bench: ToolBench) -> None:
        await bench.add("send", SideEffect.ASK)
        await bench.add("other", SideEffect.ASK)
        await bench.run("send")
        with pytest.raises(Conflict, match="call_index"):
            await bench.run("send", {"to": "bob"})
        with pytest.raises(Conflict):
            await bench.run("other")
        assert (await bench.run("send", index=1)).status is ExecutionStatus.SUCCEEDED

    async def test_at_once_they_are_sent_once(self, bench: ToolBench) -> None:
        await bench.add("send", SideEffect.ASK)
        gate = asyncio.Event()
        bench.http.behaviours["send"] = gate.wait
        calls = [asyncio.create_task(bench.run("send")) for _ in range(3)]
        await bench.sent("send")
        with pytest.raises(Conflict):
            await bench.run("send", {"to": "bob"})
        gate.set()
        outcomes = await asyncio.gather(*calls)
        assert bench.http.count("send") == 1
        assert sum(outcome.replayed for outcome in outcomes) == 2

    async def test_a_caller_that_goes_away_does_not_lose_the_outcome(self, bench: ToolBench) -> None:
        await bench.add("send", SideEffect.ASK)
        gate = asyncio.Event()
        bench.http.behaviours["send"] = gate.wait
        caller = asyncio.create_task(bench.run("send"))
        await bench.sent("send")
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        gate.set()
        await bench.ledger.drain(1)
        assert (await bench.run("send")).replayed
        assert bench.http.count("send") == 1

    async def test_the_stored_outcome_outlives_its_tool(self, bench: ToolBench) -> None:
        await bench.add("send", SideEffect.ASK)
        first = await bench.run("send")
        await bench.tools.delete("t1", "send")
        assert await bench.run("send") == replace(first, replayed=True)

    async def test_an_effect_is_stored_before_it_is_sent(self, bench: ToolBench) -> None:
        await bench.add("send", SideEffect.ASK)
        states: list[EffectState] = []

        async def look() -> None:
            effects = await bench.effects.list("t1", Page(9), EffectFilter())
            states.extend(effect.state for effect in effects)

        bench.http.behaviours["send"] = look
        await bench.run("send")
        assert states == [EffectState.DISPATCHED]

    async def test_invalid_arguments_and_refusals_leave_no_effect(self, bench: ToolBench) -> None:
        await bench.add("send", SideEffect.ASK)
        await bench.run("send", {"no": 1})
        await bench.run("nope")
        assert await bench.effects.list("t1", Page(9), EffectFilter()) == []


class TestLostOutcomes:
    """The process ended between dispatch and result: the effect is DISPATCHED by nobody."""

    async def crash(self, bench: ToolBench, side_effect: SideEffect, **more: Any) -> None:
        await bench.add("send", side_effect, **more)
        bench.http.behaviours["send"] = hang
        caller = asyncio.create_task(bench.run("send"))
        await bench.sent("send")
        # What a kill leaves: the row, and no task.
        for running in list(bench.ledger._running.values()):
            running.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        bench.http.behaviours.pop("send")
        bench.restart()

    async def test_idempotent_is_sent_again_with_its_key(self, bench: ToolBench) -> None:
        await self.crash(bench, SideEffect.IDEMPOTENT)
        outcome = await bench.run("send")
        assert outcome.status is ExecutionStatus.SUCCEEDED
        keys = [key for name, _, key in bench.http.calls if name == "send"]
        assert len(keys) == 2
        assert keys == [outcome.effect_id] * 2

    async def test_ask_is_left_to_a_person(self, bench: ToolBench) -> None:
        await self.crash(bench, SideEffect.ASK)
        for _ in range(2):
            outcome = await bench.run("send")
            assert outcome.status is ExecutionStatus.UNSETTLED
            assert "do not call the tool again" in error(outcome)
        assert bench.http.count("send") == 1
        [effect] = await bench.effects.list("t1", Page(9), EffectFilter())
        assert effect.state is EffectState.UNSETTLED

    async def reconcile(self, bench: ToolBench, answer: Any) -> Outcome:
        await bench.add("was_sent")
        await self.crash(bench, SideEffect.RECONCILE, reconcile_tool="was_sent")
        bench.http.behaviours["was_sent"] = answer
        return await bench.run("send")

    @pytest.mark.parametrize(
        "answer",
        [
            {"status": 200, "body": {"id": 7}},
            {"status": 200, "body": {"found": True, "id": 7}},
            {"status": 200, "body": [7]},
        ],
    )
    async def test_reconcile_takes_what_the_query_tool_found(self, bench: ToolBench, answer: Any) -> None:
        outcome = await self.reconcile(bench, answer)
        assert outcome.status is ExecutionStatus.SUCCEEDED
        assert json.loads(outcome.result_json) == answer
        assert bench.http.calls[-1][:2] == ("was_sent", {"to": "ann"})
        assert bench.http.count("send") == 1
        assert (await bench.run("send")).replayed

    @pytest.mark.parametrize(
        "answer",
        [
            ToolNotFound("The service answered 404."),
            {"status": 200, "body": {"happened": False}},
            {"status": 200, "body": {"found": False}},
            {"status": 200, "body": {"exists": False}},
        ],
    )
    async def test_reconcile_sends_what_did_not_happen(self, bench: ToolBench, answer: Any) -> None:
        outcome = await self.reconcile(bench, answer)
        assert outcome.status is ExecutionStatus.SUCCEEDED
        assert bench.http.count("send") == 2

    @pytest.mark.parametrize("answer", [ServiceDown("It is down."), UNKNOWN, ToolFailed("The service answered 400.")])
    async def test_reconcile_waits_for_a_query_tool_that_fails(self, bench: ToolBench, answer: Exception) -> None:
        outcome = await self.reconcile(bench, answer)
        assert outcome.status is ExecutionStatus.UNSETTLED
        assert bench.http.count("send") == 1
        bench.http.behaviours["was_sent"] = {"status": 200, "body": {"id": 7}}
        assert (await bench.run("send")).status is ExecutionStatus.SUCCEEDED
        assert bench.http.count("send") == 1

    async def test_another_replicas_live_call_is_waited_for(self, bench: ToolBench) -> None:
        bench.effects = InMemoryEffectStore(exclusive=False)
        bench.restart()
        await bench.add("send", SideEffect.ASK)
        gate = asyncio.Event()
        bench.http.behaviours["send"] = gate.wait
        first = asyncio.create_task(bench.run("send"))
        await bench.sent("send")
        bench.restart()
        second = asyncio.create_task(bench.run("send"))
        await asyncio.sleep(0.02)
        gate.set()
        assert (await first).status is ExecutionStatus.SUCCEEDED
        outcome = await second
        assert (outcome.status, outcome.replayed) == (ExecutionStatus.SUCCEEDED, True)
        assert bench.http.count("send") == 1


class TestLostAnswers:
    """The call was sent, the process lives, and the answer did not come."""

    @pytest.mark.parametrize("lost", [UNKNOWN, hang])
    async def test_ask_is_left_to_a_person(self, bench: ToolBench, lost: Any) -> None:
        await bench.add("send", SideEffect.ASK)
        bench.http.behaviours["send"] = lost
        assert (await bench.run("send")).status is ExecutionStatus.UNSETTLED

    @pytest.mark.parametrize(("lost", "status"), [(UNKNOWN, ExecutionStatus.FAILED), (hang, ExecutionStatus.TIMED_OUT)])
    async def test_idempotent_says_so_and_a_replay_sends_again(
        self, bench: ToolBench, lost: Any, status: ExecutionStatus
    ) -> None:
        await bench.add("send", SideEffect.IDEMPOTENT)
        bench.http.behaviours["send"] = lost
        outcome = await bench.run("send")
        assert outcome.status is status
        assert "not known whether this call took effect" in error(outcome)
        bench.http.behaviours.pop("send")
        again = await bench.run("send")
        assert (again.status, again.replayed) == (ExecutionStatus.SUCCEEDED, False)

    async def test_reconcile_asks_at_once(self, bench: ToolBench) -> None:
        await bench.add("was_sent")
        await bench.add("send", SideEffect.RECONCILE, reconcile_tool="was_sent")
        bench.http.behaviours = {"send": UNKNOWN, "was_sent": {"status": 200, "body": {"id": 7}}}
        assert (await bench.run("send")).status is ExecutionStatus.SUCCEEDED
        bench.http.behaviours["was_sent"] = ToolNotFound("The service answered 404.")
        outcome = await bench.run("send", index=1)
        assert outcome.status is ExecutionStatus.FAILED
        assert "did not take effect" in error(outcome)
        assert bench.http.count("send") == 2

    async def test_what_was_never_sent_is_a_plain_failure(self, bench: ToolBench) -> None:
        await bench.add("send", SideEffect.ASK)
        bench.http.behaviours["send"] = ServiceDown("The service cannot be reached.")
        assert (await bench.run("send")).status is ExecutionStatus.FAILED
