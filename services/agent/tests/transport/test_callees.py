"""Agents that call agents, over real gRPC: budgets are inherited, and a crash doubles nothing."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from errand.agent.v1 import agent_pb2 as pb
from errand.agent.v1 import agent_pb2_grpc
from errand_agent.testing.backend import FakeBackend, fake_backend
from errand_agent.testing.process import AgentProcess, as_somebody, until_observed
from errand_common.errors import InvalidArgument
from errand_common.rpc.client import create_channel, translate_errors
from errand_common.testing.keys import TestKeys

Stub = agent_pb2_grpc.AgentServiceStub


@asynccontextmanager
async def _own(keys: TestKeys, folder: Path) -> AsyncIterator[tuple[FakeBackend, AgentProcess]]:
    """A process that a test may kill, and what it calls."""
    async with fake_backend(keys) as backend:
        process = AgentProcess(folder, keys, backend.target)
        await process.start()
        with as_somebody(keys, "default", "user-1"):
            yield backend, process
        assert process.end() == 0


@asynccontextmanager
async def _connected(process: AgentProcess) -> AsyncIterator[Stub]:
    async with create_channel(process.target) as channel, asyncio.timeout(60):
        # Connections to one address are shared, and may still rest from the refusals of before.
        await channel.channel_ready()
        yield Stub(channel)


async def _define(stub: Stub, **lead: object) -> None:
    helper = pb.Agent(name="helper", description="Computes.", tools=["calculator", "http_get"])
    await stub.CreateAgent(pb.CreateAgentRequest(agent=helper))
    await stub.CreateAgent(pb.CreateAgentRequest(agent=pb.Agent(name="lead", agents=["helper"], **lead)))


async def _called(stub: Stub, run_id: str) -> list[pb.Run]:
    listed = await stub.ListRuns(pb.ListRunsRequest(parent_run_id=run_id))
    return [(await stub.GetRun(pb.GetRunRequest(id=run.id))).run for run in listed.runs]


async def _start(stub: Stub, message: str) -> str:
    request = pb.StartRunRequest(request=pb.RunAgentRequest(agent="lead", message=message))
    run_id: str = (await stub.StartRun(request)).run.id
    return run_id


async def test_an_agent_is_called_like_a_tool_and_its_use_counts(
    stub: Stub, keys: TestKeys, backend: FakeBackend
) -> None:
    with as_somebody(keys, "callers", "user-1"):
        await _define(stub)
        backend.inference.traces.clear()
        run = (await stub.RunAgent(pb.RunAgentRequest(agent="lead", message="delegate calculate it"))).run
        assert run.answer == "The result is 42."
        [called] = await _called(stub, run.id)
        assert (called.agent, called.message, called.answer) == ("helper", "calculate it", "The result is 42.")
        observed = next(step for step in run.steps if step.kind == pb.STEP_KIND_OBSERVE)
        assert (observed.tool_name, observed.run_id) == ("ask_helper", called.id)
        assert run.usage.prompt_tokens == 40, "two turns of its own and two of the agent it called"
        assert len(set(backend.inference.traces)) == 1, "one trace tells of both"
        listed = await stub.ListConversations(pb.ListConversationsRequest())
        assert called.conversation_id not in [found.id for found in listed.conversations]


async def test_the_called_agent_gets_what_is_left(stub: Stub, keys: TestKeys) -> None:
    with as_somebody(keys, "poor-callers", "user-1"):
        await _define(stub, max_tokens=20, max_seconds=30)
        run = (await stub.RunAgent(pb.RunAgentRequest(agent="lead", message="delegate calculate it"))).run
        assert run.stop_reason == pb.STOP_REASON_MAX_TOKENS
        [called] = await _called(stub, run.id)
        assert called.stop_reason == pb.STOP_REASON_MAX_TOKENS
        assert called.usage.prompt_tokens + called.usage.completion_tokens == 15, "its first turn was one too many"


async def test_who_cancels_a_run_cancels_what_it_called(keys: TestKeys, tmp_path: Path) -> None:
    async with _own(keys, tmp_path) as (backend, process), _connected(process) as stub:
        await _define(stub)
        run_id = await _start(stub, "delegate wait")
        await backend.inference.waiting.wait()
        await stub.CancelRun(pb.CancelRunRequest(id=run_id))
        events = [item.event async for item in stub.WatchRun(pb.WatchRunRequest(id=run_id))]
        [called] = await _called(stub, run_id)
        while called.state != pb.RUN_STATE_ENDED:
            await asyncio.sleep(0.05)
            [called] = await _called(stub, run_id)
    assert events[-1].ended.stop_reason == called.stop_reason == pb.STOP_REASON_CANCELLED


async def test_a_crash_finds_the_called_run_again(keys: TestKeys, tmp_path: Path) -> None:
    async with _own(keys, tmp_path) as (backend, process):
        async with _connected(process) as stub:
            await _define(stub)
            run_id = await _start(stub, "delegate calculate and hold")
            await backend.inference.waiting.wait()
            [called] = await _called(stub, run_id)
            await until_observed(stub, called.id)
        process.end(signal.SIGKILL)
        backend.inference.release.set()
        await process.start()
        async with _connected(process) as stub:
            events = [item.event async for item in stub.WatchRun(pb.WatchRunRequest(id=run_id))]
            found = await _called(stub, run_id)
    assert events[-1].ended.answer == "The result is 42."
    assert [(run.id, run.answer) for run in found] == [(called.id, "The result is 42.")]
    assert list(backend.tools.asked.values()) == [1]


async def test_a_called_run_that_asks_a_person_holds_its_caller_and_goes_on_once(
    keys: TestKeys, tmp_path: Path
) -> None:
    async with _own(keys, tmp_path) as (backend, process):
        async with _connected(process) as stub:
            await _define(stub)
            run = (await stub.RunAgent(pb.RunAgentRequest(agent="lead", message="delegate fetch it"))).run
            assert (run.state, run.stop_reason) == (pb.RUN_STATE_WAITING, pb.STOP_REASON_NEEDS_APPROVAL)
            [called] = await _called(stub, run.id)
            [approval] = run.approvals
            assert (approval.run_id, approval.tool_name) == (called.id, "http_get")
        process.end(signal.SIGKILL)
        await process.start()
        async with _connected(process) as stub:
            assert not backend.tools.asked, "nothing ran before the person spoke"
            await stub.ApproveCall(pb.ApproveCallRequest(approval_id=approval.id))
            events = [item.event async for item in stub.WatchRun(pb.WatchRunRequest(id=run.id))]
    assert (events[-1].ended.answer, list(backend.tools.asked.values())) == ("The result is 42.", [1])
    states = [event.approval.state for event in events if event.WhichOneof("event") == "approval"]
    assert states == [pb.APPROVAL_STATE_PENDING, pb.APPROVAL_STATE_APPROVED]


@pytest.mark.parametrize(
    ("callee", "said"),
    [("bottom", "circle: bottom -> bottom"), ("nobody", "'nobody' does not exist"), ("top", "circle")],
)
async def test_circles_and_strangers_are_refused(stub: Stub, keys: TestKeys, callee: str, said: str) -> None:
    with as_somebody(keys, f"circles-{callee}", "user-1"):
        await stub.CreateAgent(pb.CreateAgentRequest(agent=pb.Agent(name="bottom")))
        await stub.CreateAgent(pb.CreateAgentRequest(agent=pb.Agent(name="top", agents=["bottom"])))
        changed = pb.UpdateAgentRequest(agent=pb.Agent(name="bottom", agents=[callee]))
        with pytest.raises(InvalidArgument, match=said), translate_errors("agent"):
            await stub.UpdateAgent(changed)
