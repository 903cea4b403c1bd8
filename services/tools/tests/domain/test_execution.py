"""Every way a call can end is an outcome; effects happen once."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from errand_common.errors import Conflict, Unavailable
from errand_tools.domain.callers import HttpTools
from errand_tools.domain.effects import CallPosition, EffectFilter, EffectState
from errand_tools.domain.execution import Call, ToolExecutor
from errand_tools.domain.ledger import EffectLedger
from errand_tools.domain.limits import CircuitBreaker, ConcurrencyLimit, RateLimit
from errand_tools.domain.ports import Page
from errand_tools.domain.registry import ToolRegistry
from errand_tools.domain.tools import (
    ExecutionStatus,
    HttpBinding,
    JsonObject,
    Outcome,
    OutcomeUnknown,
    ServiceDown,
    SideEffect,
    Tool,
    ToolDenied,
    ToolFailed,
    ToolKind,
    ToolNotFound,
    ToolPolicy,
)
from errand_tools.domain.usage import UsageBook
from errand_tools.testing import (
    InMemoryEffectStore,
    InMemoryToolStore,
    InMemoryUsageStore,
    ScriptedHttpCaller,
    ScriptedMcpCaller,
    secret_book,
)

SCHEMA: JsonObject = {
    "type": "object",
    "properties": {"to": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["to"],
}


class Bench:
    """An executor over stores in memory, started anew as after a crash by `restart`."""

    def __init__(self) -> None:
        self.http = ScriptedHttpCaller()
        self.tools = InMemoryToolStore()
        self.effects = InMemoryEffectStore()
        self.usage = UsageBook(InMemoryUsageStore(), lambda: datetime.now(UTC))
        self.reported: list[tuple[str, BaseException]] = []
        self.runners: dict[str, Any] = {}
        self.now = 0.0
        self.restart()

    def restart(self, *, running: int = 4, waiting: int = 4) -> None:
        builtins = [
            Tool(name, "A built-in tool.", SCHEMA, timeout_ms=300, kind=ToolKind.BUILTIN) for name in self.runners
        ]
        self.secrets = secret_book()
        self.registry = ToolRegistry(self.tools, builtins, self.secrets, cache_seconds=0)
        self.ledger = EffectLedger(self.effects, owner=f"p{id(object())}", clock=lambda: datetime.now(UTC))
        self.executor = ToolExecutor(
            self.registry,
            self.runners,
            {
                ToolKind.HTTP: HttpTools(self.http, self.secrets),
                ToolKind.MCP: ScriptedMcpCaller(),
            },
            self.ledger,
            usage=self.usage,
            rate=RateLimit(clock=lambda: self.now),
            limit=ConcurrencyLimit(running=running, waiting=waiting),
            breaker=CircuitBreaker(failures=3, open_seconds=30, clock=lambda: self.now),
            report=lambda tool, error: self.reported.append((tool, error)),
        )

    async def add(self, name: str, side_effect: SideEffect = SideEffect.NONE, **more: Any) -> None:
        tool = Tool(
            name,
            "A tool.",
            SCHEMA,
            timeout_ms=300,
            side_effect=side_effect,
            http=HttpBinding("POST", f"https://a.example/{name}"),
        )
        await self.tools.add("t1", replace(tool, **more), most=100)

    async def sent(self, name: str) -> None:
        """Waits until the endpoint was called."""
        while not self.http.count(name):  # noqa: ASYNC110  the scripted endpoint tells nobody
            await asyncio.sleep(0.001)

    async def run(self, name: str, arguments: Any = None, index: int = 0) -> Outcome:
        text = json.dumps({"to": "ann"} if arguments is None else arguments)
        call = Call(name, text, CallPosition("run_1", 1, index))
        return await self.executor.execute("t1", call)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def error(outcome: Outcome) -> str:
    return str(json.loads(outcome.result_json)["error"])


UNKNOWN = OutcomeUnknown("The connection to the service failed.", status=ExecutionStatus.FAILED)
CLASSES = [SideEffect.NONE, SideEffect.IDEMPOTENT, SideEffect.RECONCILE, SideEffect.ASK]
WITH_EFFECT = CLASSES[1:]


async def hang() -> None:
    await asyncio.sleep(60)


class TestOutcomes:
    async def test_success(self, bench: Bench) -> None:
        await bench.add("send")
        outcome = await bench.run("send")
        assert outcome.status is ExecutionStatus.SUCCEEDED
        assert json.loads(outcome.result_json) == {"status": 200, "body": {"ok": True}}
        assert outcome.duration_ms > 0

    async def test_unknown_tool(self, bench: Bench) -> None:
        outcome = await bench.run("nope")
        assert outcome.status is ExecutionStatus.UNKNOWN_TOOL
        assert "no tool named 'nope'" in error(outcome)

    async def test_tool_that_is_turned_off(self, bench: Bench) -> None:
        await bench.add("send", enabled=False)
        outcome = await bench.run("send")
        assert outcome.status is ExecutionStatus.UNKNOWN_TOOL
        assert "turned off" in error(outcome)

    async def test_forbidden_tool(self, bench: Bench) -> None:
        await bench.add("send", policy=ToolPolicy.DENY)
        assert (await bench.run("send")).status is ExecutionStatus.DENIED
        assert bench.http.calls == []

    @pytest.mark.parametrize("text", ["", "{", "[]", "1", '"x"', '{"to": NaN}', "[" * 100_000])
    async def test_arguments_that_are_no_object(self, bench: Bench, text: str) -> None:
        await bench.add("send")
        call = Call("send", text, CallPosition("run_1", 1, 0))
        outcome = await bench.executor.execute("t1", call)
        assert outcome.status is ExecutionStatus.INVALID_ARGUMENTS
        assert bench.http.calls == []

    async def test_arguments_are_coerced_where_safe(self, bench: Bench) -> None:
        await bench.add("send")
        await bench.run("send", {"to": "ann", "count": "3"})
        assert bench.http.calls[0][1] == {"to": "ann", "count": 3}

    @pytest.mark.parametrize("side_effect", CLASSES)
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
        self, bench: Bench, side_effect: SideEffect, raised: Exception, status: ExecutionStatus
    ) -> None:
        await bench.add("send", side_effect)
        bench.http.behaviours["send"] = raised
        outcome = await bench.run("send")
        assert outcome.status is status
        assert error(outcome).endswith(".")
        assert "secret" not in outcome.result_json

    async def test_faults_are_reported_for_the_log(self, bench: Bench) -> None:
        await bench.add("send")
        bench.http.behaviours["send"] = fault = RuntimeError("secret sauce")
        await bench.run("send")
        assert bench.reported == [("send", fault)]

    async def test_a_tool_that_hangs(self, bench: Bench) -> None:
        await bench.add("send")
        bench.http.behaviours["send"] = hang
        outcome = await bench.run("send")
        assert outcome.status is ExecutionStatus.TIMED_OUT
        assert "longer than its limit of 0.3 seconds" in error(outcome)
        assert outcome.duration_ms >= 300

    async def test_a_tool_that_floods(self, bench: Bench) -> None:
        await bench.add("send")
        bench.http.behaviours["send"] = {"status": 200, "body": "x" * 10_000_000}
        outcome = await bench.run("send")
        assert outcome.status is ExecutionStatus.SUCCEEDED
        assert outcome.truncated
        assert len(outcome.result_json.encode()) <= 16 * 1024

    async def test_errors_are_sanitised_and_short(self, bench: Bench) -> None:
        await bench.add("send")
        bench.http.behaviours["send"] = ToolFailed("<start_of_turn>" + "x" * 10_000)
        message = error(await bench.run("send"))
        assert "<start_of_turn>" not in message
        assert len(message) <= 500

    async def test_tenants_do_not_see_each_others_tools(self, bench: Bench) -> None:
        await bench.add("send")
        call = Call("send", '{"to": "ann"}', CallPosition("run_1", 1, 0))
        outcome = await bench.executor.execute("t2", call)
        assert outcome.status is ExecutionStatus.UNKNOWN_TOOL


class TestLimits:
    async def test_more_calls_than_slots_wait_and_then_are_refused(self, bench: Bench) -> None:
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

    async def test_a_long_wait_ends_as_an_outcome(self, bench: Bench) -> None:
        bench.restart(running=1, waiting=4)
        await bench.add("send", timeout_ms=100)
        bench.http.behaviours["send"] = hang
        outcomes = await asyncio.gather(*(bench.run("send", index=i) for i in range(2)))
        assert {o.status for o in outcomes} <= {ExecutionStatus.TIMED_OUT, ExecutionStatus.FAILED}

    async def test_the_circuit_opens_after_failures_and_closes_again(self, bench: Bench) -> None:
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

    async def test_a_failed_trial_opens_it_again(self, bench: Bench) -> None:
        await bench.add("send")
        bench.http.behaviours["send"] = ServiceDown("It is down.")
        for index in range(3):
            await bench.run("send", index=index)
        bench.now = 31
        for index in range(3, 6):
            await bench.run("send", index=index)
        assert bench.http.count("send") == 4

    async def test_hangs_open_the_circuit_and_refusals_do_not(self, bench: Bench) -> None:
        await bench.add("slow", timeout_ms=10)
        await bench.add("picky")
        bench.http.behaviours = {"slow": hang, "picky": ToolFailed("The service answered 400.")}
        for index in range(5):
            await bench.run("slow", index=index)
            await bench.run("picky", index=index)
        assert bench.http.count("slow") == 3
        assert bench.http.count("picky") == 5

    async def test_one_tools_circuit_is_not_anothers(self, bench: Bench) -> None:
        await bench.add("send")
        await bench.add("other")
        bench.http.behaviours["send"] = ServiceDown("It is down.")
        for index in range(4):
            await bench.run("send", index=index)
        assert (await bench.run("other")).status is ExecutionStatus.SUCCEEDED


class TestLedger:
    @pytest.mark.parametrize("side_effect", WITH_EFFECT)
    async def test_a_replay_gets_the_stored_outcome(self, bench: Bench, side_effect: SideEffect) -> None:
        await bench.add("send", side_effect)
        first = await bench.run("send")
        bench.restart()
        second = await bench.run("send")
        assert second == replace(first, replayed=True)
        assert first.effect_id.startswith("eff_")
        assert bench.http.count("send") == 1

    async def test_without_side_effect_it_runs_again(self, bench: Bench) -> None:
        await bench.add("send")
        await bench.run("send")
        outcome = await bench.run("send")
        assert not outcome.replayed
        assert bench.http.count("send") == 2

    async def test_failures_are_replayed_too(self, bench: Bench) -> None:
        await bench.add("send", SideEffect.ASK)
        bench.http.behaviours["send"] = ToolFailed("No such address.")
        await bench.run("send")
        outcome = await bench.run("send")
        assert (outcome.status, outcome.replayed) == (ExecutionStatus.FAILED, True)
        assert bench.http.count("send") == 1

    async def test_other_arguments_are_a_conflict(self, bench: Bench) -> None:
        await bench.add("send", SideEffect.ASK)
        await bench.add("other", SideEffect.ASK)
        await bench.run("send")
        with pytest.raises(Conflict, match="call_index"):
            await bench.run("send", {"to": "bob"})
        with pytest.raises(Conflict):
            await bench.run("other")
        assert (await bench.run("send", index=1)).status is ExecutionStatus.SUCCEEDED

    async def test_at_once_they_are_sent_once(self, bench: Bench) -> None:
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

    async def test_a_caller_that_goes_away_does_not_lose_the_outcome(self, bench: Bench) -> None:
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

    async def test_the_stored_outcome_outlives_its_tool(self, bench: Bench) -> None:
        await bench.add("send", SideEffect.ASK)
        first = await bench.run("send")
        await bench.tools.delete("t1", "send")
        assert await bench.run("send") == replace(first, replayed=True)

    async def test_an_effect_is_stored_before_it_is_sent(self, bench: Bench) -> None:
        await bench.add("send", SideEffect.ASK)
        states: list[EffectState] = []

        async def look() -> None:
            effects = await bench.effects.list("t1", Page(9), EffectFilter())
            states.extend(effect.state for effect in effects)

        bench.http.behaviours["send"] = look
        await bench.run("send")
        assert states == [EffectState.DISPATCHED]

    async def test_invalid_arguments_and_refusals_leave_no_effect(self, bench: Bench) -> None:
        await bench.add("send", SideEffect.ASK)
        await bench.run("send", {"no": 1})
        await bench.run("nope")
        assert await bench.effects.list("t1", Page(9), EffectFilter()) == []


class TestLostOutcomes:
    """The process ended between dispatch and result: the effect is DISPATCHED by nobody."""

    async def crash(self, bench: Bench, side_effect: SideEffect, **more: Any) -> None:
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

    async def test_idempotent_is_sent_again_with_its_key(self, bench: Bench) -> None:
        await self.crash(bench, SideEffect.IDEMPOTENT)
        outcome = await bench.run("send")
        assert outcome.status is ExecutionStatus.SUCCEEDED
        keys = [key for name, _, key in bench.http.calls if name == "send"]
        assert len(keys) == 2
        assert keys == [outcome.effect_id] * 2

    async def test_ask_is_left_to_a_person(self, bench: Bench) -> None:
        await self.crash(bench, SideEffect.ASK)
        for _ in range(2):
            outcome = await bench.run("send")
            assert outcome.status is ExecutionStatus.UNSETTLED
            assert "do not call the tool again" in error(outcome)
        assert bench.http.count("send") == 1
        [effect] = await bench.effects.list("t1", Page(9), EffectFilter())
        assert effect.state is EffectState.UNSETTLED

    async def reconcile(self, bench: Bench, answer: Any) -> Outcome:
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
    async def test_reconcile_takes_what_the_query_tool_found(self, bench: Bench, answer: Any) -> None:
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
    async def test_reconcile_sends_what_did_not_happen(self, bench: Bench, answer: Any) -> None:
        outcome = await self.reconcile(bench, answer)
        assert outcome.status is ExecutionStatus.SUCCEEDED
        assert bench.http.count("send") == 2

    @pytest.mark.parametrize("answer", [ServiceDown("It is down."), UNKNOWN, ToolFailed("The service answered 400.")])
    async def test_reconcile_waits_for_a_query_tool_that_fails(self, bench: Bench, answer: Exception) -> None:
        outcome = await self.reconcile(bench, answer)
        assert outcome.status is ExecutionStatus.UNSETTLED
        assert bench.http.count("send") == 1
        bench.http.behaviours["was_sent"] = {"status": 200, "body": {"id": 7}}
        assert (await bench.run("send")).status is ExecutionStatus.SUCCEEDED
        assert bench.http.count("send") == 1

    async def test_another_replicas_live_call_is_waited_for(self, bench: Bench) -> None:
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
    async def test_ask_is_left_to_a_person(self, bench: Bench, lost: Any) -> None:
        await bench.add("send", SideEffect.ASK)
        bench.http.behaviours["send"] = lost
        assert (await bench.run("send")).status is ExecutionStatus.UNSETTLED

    @pytest.mark.parametrize(("lost", "status"), [(UNKNOWN, ExecutionStatus.FAILED), (hang, ExecutionStatus.TIMED_OUT)])
    async def test_idempotent_says_so_and_a_replay_sends_again(
        self, bench: Bench, lost: Any, status: ExecutionStatus
    ) -> None:
        await bench.add("send", SideEffect.IDEMPOTENT)
        bench.http.behaviours["send"] = lost
        outcome = await bench.run("send")
        assert outcome.status is status
        assert "not known whether this call took effect" in error(outcome)
        bench.http.behaviours.pop("send")
        again = await bench.run("send")
        assert (again.status, again.replayed) == (ExecutionStatus.SUCCEEDED, False)

    async def test_reconcile_asks_at_once(self, bench: Bench) -> None:
        await bench.add("was_sent")
        await bench.add("send", SideEffect.RECONCILE, reconcile_tool="was_sent")
        bench.http.behaviours = {"send": UNKNOWN, "was_sent": {"status": 200, "body": {"id": 7}}}
        assert (await bench.run("send")).status is ExecutionStatus.SUCCEEDED
        bench.http.behaviours["was_sent"] = ToolNotFound("The service answered 404.")
        outcome = await bench.run("send", index=1)
        assert outcome.status is ExecutionStatus.FAILED
        assert "did not take effect" in error(outcome)
        assert bench.http.count("send") == 2

    async def test_what_was_never_sent_is_a_plain_failure(self, bench: Bench) -> None:
        await bench.add("send", SideEffect.ASK)
        bench.http.behaviours["send"] = ServiceDown("The service cannot be reached.")
        assert (await bench.run("send")).status is ExecutionStatus.FAILED
