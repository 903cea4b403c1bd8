"""Every way a call can end is an outcome."""

import asyncio
import json

import pytest
from errand_common.errors import Unavailable
from errand_tools.domain.effects import CallPosition
from errand_tools.domain.execution import Call
from errand_tools.domain.tools import (
    ExecutionStatus,
    ServiceDown,
    SideEffect,
    ToolDenied,
    ToolFailed,
    ToolPolicy,
)
from errand_tools.testing.bench import ToolBench, error, hang


@pytest.fixture
def bench() -> ToolBench:
    return ToolBench()


class TestCallersThatGoAway:
    async def test_a_tool_that_changes_nothing_stops_with_them(self, bench: ToolBench) -> None:
        started, stopped = asyncio.Event(), asyncio.Event()

        async def slow() -> None:
            started.set()
            try:
                await asyncio.sleep(60)
            finally:
                stopped.set()

        await bench.add("look", timeout_ms=60_000)
        bench.http.behaviours["look"] = slow
        # More than the breaker allows in failures: a caller's going tells nothing of the endpoint.
        for index in range(4):
            started.clear()
            stopped.clear()
            calling = asyncio.ensure_future(bench.run("look", index=index))
            await started.wait()
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
            assert stopped.is_set()
        bench.http.behaviours["look"] = {"status": 200, "body": {}}
        assert (await bench.run("look", index=9)).status is ExecutionStatus.SUCCEEDED


class TestOutcomes:
    async def test_success(self, bench: ToolBench) -> None:
        await bench.add("send")
        outcome = await bench.run("send")
        assert outcome.status is ExecutionStatus.SUCCEEDED
        assert json.loads(outcome.result_json) == {"status": 200, "body": {"ok": True}}
        assert outcome.duration_ms > 0

    async def test_unknown_tool(self, bench: ToolBench) -> None:
        outcome = await bench.run("nope")
        assert outcome.status is ExecutionStatus.UNKNOWN_TOOL
        assert "no tool named 'nope'" in error(outcome)

    async def test_tool_that_is_turned_off(self, bench: ToolBench) -> None:
        await bench.add("send", enabled=False)
        outcome = await bench.run("send")
        assert outcome.status is ExecutionStatus.UNKNOWN_TOOL
        assert "turned off" in error(outcome)

    async def test_forbidden_tool(self, bench: ToolBench) -> None:
        await bench.add("send", policy=ToolPolicy.DENY)
        assert (await bench.run("send")).status is ExecutionStatus.DENIED
        assert bench.http.calls == []

    @pytest.mark.parametrize("text", ["", "{", "[]", "1", '"x"', '{"to": NaN}', "[" * 100_000])
    async def test_arguments_that_are_no_object(self, bench: ToolBench, text: str) -> None:
        await bench.add("send")
        call = Call("send", text, CallPosition("run_1", 1, 0))
        outcome = await bench.executor.execute("t1", call)
        assert outcome.status is ExecutionStatus.INVALID_ARGUMENTS
        assert bench.http.calls == []

    async def test_arguments_are_coerced_where_safe(self, bench: ToolBench) -> None:
        await bench.add("send")
        await bench.run("send", {"to": "ann", "count": "3"})
        assert bench.http.calls[0][1] == {"to": "ann", "count": 3}

    @pytest.mark.parametrize("side_effect", SideEffect)
    @pytest.mark.parametrize(
        ("raised", "status"),
        [
            (ToolFailed("It broke."), ExecutionStatus.FAILED),
            (ServiceDown("It is down."), ExecutionStatus.FAILED),
            (ToolDenied("It may not."), ExecutionStatus.DENIED),
            (Unavailable("rag"), ExecutionStatus.FAILED),
            (RuntimeError("secret sauce"), ExecutionStatus.FAILED),
            (RecursionError(), ExecutionStatus.FAILED),
            (MemoryError(), ExecutionStatus.FAILED),
        ],
    )
    async def test_a_tool_that_raises(
        self, bench: ToolBench, side_effect: SideEffect, raised: Exception, status: ExecutionStatus
    ) -> None:
        await bench.add("send", side_effect)
        bench.http.behaviours["send"] = raised
        outcome = await bench.run("send")
        assert outcome.status is status
        assert error(outcome).endswith(".")
        assert "secret" not in outcome.result_json

    async def test_faults_are_reported_for_the_log(self, bench: ToolBench) -> None:
        await bench.add("send")
        bench.http.behaviours["send"] = fault = RuntimeError("secret sauce")
        await bench.run("send")
        assert bench.reported == [("send", fault)]

    async def test_a_tool_that_hangs(self, bench: ToolBench) -> None:
        await bench.add("send")
        bench.http.behaviours["send"] = hang
        outcome = await bench.run("send")
        assert outcome.status is ExecutionStatus.TIMED_OUT
        assert "longer than its limit of 0.3 seconds" in error(outcome)
        assert outcome.duration_ms >= 300

    async def test_a_tool_that_floods(self, bench: ToolBench) -> None:
        await bench.add("send")
        bench.http.behaviours["send"] = {"status": 200, "body": "x" * 10_000_000}
        outcome = await bench.run("send")
        assert outcome.status is ExecutionStatus.SUCCEEDED
        assert outcome.truncated
        assert len(outcome.result_json.encode()) <= 16 * 1024

    async def test_errors_are_sanitised_and_short(self, bench: ToolBench) -> None:
        await bench.add("send")
        bench.http.behaviours["send"] = ToolFailed("<start_of_turn>" + "x" * 10_000)
        message = error(await bench.run("send"))
        assert "<start_of_turn>" not in message
        assert len(message) <= 500

    async def test_tenants_do_not_see_each_others_tools(self, bench: ToolBench) -> None:
        await bench.add("send")
        call = Call("send", '{"to": "ann"}', CallPosition("run_1", 1, 0))
        outcome = await bench.executor.execute("t2", call)
        assert outcome.status is ExecutionStatus.UNKNOWN_TOOL


class TestLimits:
    async def test_more_calls_than_slots_wait_and_then_are_refused(self, bench: ToolBench) -> None:
        bench.restart(running=2, waiting=2)
        await bench.add("send")
        gate = asyncio.Event()
        bench.http.behaviours["send"] = gate.wait
        calls = [asyncio.create_task(bench.run("send", index=i)) for i in range(6)]
        await asyncio.sleep(0.05)
        assert bench.http.count("send") == 2
        gate.set()
        outcomes = await asyncio.gather(*calls)
        busy = [o for o in outcomes if o.status is ExecutionStatus.FAILED]
        assert len(busy) == 2
        assert all("busy" in error(o) for o in busy)

    async def test_a_long_wait_ends_as_an_outcome(self, bench: ToolBench) -> None:
        bench.restart(running=1, waiting=4)
        await bench.add("send", timeout_ms=100)
        bench.http.behaviours["send"] = hang
        outcomes = await asyncio.gather(*(bench.run("send", index=i) for i in range(2)))
        assert {o.status for o in outcomes} <= {ExecutionStatus.TIMED_OUT, ExecutionStatus.FAILED}

    async def test_the_circuit_opens_after_failures_and_closes_again(self, bench: ToolBench) -> None:
        await bench.add("send")
        bench.http.behaviours["send"] = ServiceDown("It is down.")
        for index in range(5):
            outcome = await bench.run("send", index=index)
        assert bench.http.count("send") == 3
        assert "keeps failing" in error(outcome)
        bench.now = 31
        bench.http.behaviours["send"] = {"status": 200, "body": 1}
        assert (await bench.run("send", index=6)).status is ExecutionStatus.SUCCEEDED
        assert (await bench.run("send", index=7)).status is ExecutionStatus.SUCCEEDED

    async def test_a_failed_trial_opens_it_again(self, bench: ToolBench) -> None:
        await bench.add("send")
        bench.http.behaviours["send"] = ServiceDown("It is down.")
        for index in range(3):
            await bench.run("send", index=index)
        bench.now = 31
        for index in range(3, 6):
            await bench.run("send", index=index)
        assert bench.http.count("send") == 4

    async def test_hangs_open_the_circuit_and_refusals_do_not(self, bench: ToolBench) -> None:
        await bench.add("slow", timeout_ms=10)
        await bench.add("picky")
        bench.http.behaviours = {"slow": hang, "picky": ToolFailed("The service answered 400.")}
        for index in range(5):
            await bench.run("slow", index=index)
            await bench.run("picky", index=index)
        assert bench.http.count("slow") == 3
        assert bench.http.count("picky") == 5

    async def test_one_tools_circuit_is_not_anothers(self, bench: ToolBench) -> None:
        await bench.add("send")
        await bench.add("other")
        bench.http.behaviours["send"] = ServiceDown("It is down.")
        for index in range(4):
            await bench.run("send", index=index)
        assert (await bench.run("other")).status is ExecutionStatus.SUCCEEDED
