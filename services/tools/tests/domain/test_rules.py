"""Rules of one tool: rate, calls at once, policy by role, cost; and how its calls are counted."""

import asyncio
from typing import Any

import pytest
from errand_tools.domain.effects import CallPosition
from errand_tools.domain.execution import Call
from errand_tools.domain.tools import (
    ExecutionStatus,
    SideEffect,
    ToolDenied,
    ToolFailed,
    ToolLimits,
    ToolPolicy,
)
from errand_tools.testing.bench import ToolBench, error


@pytest.fixture
def bench() -> ToolBench:
    return ToolBench()


class TestRules:
    async def test_a_rate_limit_holds_before_anything_is_sent(self, bench: ToolBench) -> None:
        await bench.add("send", limits=ToolLimits(calls_per_minute=2))
        outcomes = [await bench.run("send", index=index) for index in range(3)]
        assert [outcome.status for outcome in outcomes] == [
            ExecutionStatus.SUCCEEDED,
            ExecutionStatus.SUCCEEDED,
            ExecutionStatus.FAILED,
        ]
        assert error(outcomes[2]) == "The tool may be called 2 times a minute; try again in 30 s."
        assert bench.http.count("send") == 2
        bench.now += 30
        assert (await bench.run("send", index=4)).status is ExecutionStatus.SUCCEEDED
        assert (await bench.run("send", index=5)).status is ExecutionStatus.FAILED

    async def test_a_tool_can_run_one_call_at_once(self, bench: ToolBench) -> None:
        most = running = 0

        async def slow() -> Any:
            nonlocal most, running
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.01)
            running -= 1
            return 1

        bench.http.behaviours["send"] = slow
        await bench.add("send", limits=ToolLimits(concurrent_calls=1))
        await asyncio.gather(*(bench.run("send", index=index) for index in range(4)))
        assert (most, bench.http.count("send")) == (1, 4)

    @pytest.mark.parametrize(
        ("roles", "status"),
        [
            ({"viewer"}, ExecutionStatus.DENIED),
            ({"admin"}, ExecutionStatus.SUCCEEDED),
            ({"viewer", "admin"}, ExecutionStatus.SUCCEEDED),
            (set(), ExecutionStatus.DENIED),
        ],
    )
    async def test_a_role_may_have_a_policy_of_its_own(
        self, bench: ToolBench, roles: set[str], status: ExecutionStatus
    ) -> None:
        rules = (("admin", ToolPolicy.AUTO), ("viewer", ToolPolicy.DENY))
        await bench.add("send", policy=ToolPolicy.DENY, role_policies=rules)
        call = Call("send", '{"to": "ann"}', CallPosition("run_1", 1, 0), roles=frozenset(roles))
        assert (await bench.executor.execute("t1", call)).status is status

    async def test_an_answer_that_breaks_its_schema_is_a_failure_where_nothing_changed(self, bench: ToolBench) -> None:
        schema = {"type": "object", "required": ["id"]}
        await bench.add("send", result_schema=schema)
        await bench.add("book", SideEffect.ASK, result_schema=schema)
        bench.http.behaviours["send"] = [{"status": 200, "body": {"id": 1}}, {"status": 200, "body": {"ok": True}}]
        assert (await bench.run("send", index=1)).status is ExecutionStatus.SUCCEEDED
        broken = await bench.run("send", index=2)
        assert broken.status is ExecutionStatus.FAILED
        assert "not as it should be" in error(broken)
        # It has happened: told as a failure, the model would do it again.
        assert (await bench.run("book", index=3)).status is ExecutionStatus.SUCCEEDED

    async def test_what_was_sent_costs(self, bench: ToolBench) -> None:
        bench.http.behaviours["send"] = [1, ToolFailed("No."), ToolDenied("No.")]
        await bench.add("send", cost_micros=50)
        costs = [(await bench.run("send", index=index)).cost_micros for index in range(3)]
        assert costs == [50, 50, 0]
        [row] = await bench.usage.report("t1", days=1, name="")
        assert row.cost_micros == 100

    async def test_a_replay_costs_nothing(self, bench: ToolBench) -> None:
        await bench.add("send", SideEffect.IDEMPOTENT, cost_micros=50)
        assert [(await bench.run("send")).cost_micros for _ in range(2)] == [50, 0]
        [row] = await bench.usage.report("t1", days=1, name="")
        assert (row.calls, row.cost_micros) == (1, 50)

    async def test_refused_arguments_are_counted_by_name(self, bench: ToolBench) -> None:
        await bench.add("send")
        for arguments in ({"to": 1}, {"count": 1}, {"to": "a", "nobody-knows": 1}, [1]):
            assert (await bench.run("send", arguments)).status is ExecutionStatus.INVALID_ARGUMENTS
        await bench.run("nobody")
        [row] = await bench.usage.report("t1", days=1, name="")
        assert dict(row.argument_errors) == {"to": 2, "": 2}
