"""The process is killed in the middle of a run, and the run goes on from its last step."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from errand.agent.v1 import agent_pb2 as pb
from errand.agent.v1 import agent_pb2_grpc
from errand_agent.testing.backend import FakeBackend, fake_backend
from errand_agent.testing.process import AgentProcess, as_somebody, until_observed
from errand_common.rpc.client import create_channel
from errand_common.testing.keys import TestKeys

QUESTION = "calculate and hold"


@asynccontextmanager
async def _connected(process: AgentProcess) -> AsyncIterator[agent_pb2_grpc.AgentServiceStub]:
    async with create_channel(process.target) as channel:
        # Connections to one address are shared, and may still rest from the refusals of before.
        await channel.channel_ready()
        yield agent_pb2_grpc.AgentServiceStub(channel)


async def _interrupted(process: AgentProcess, backend: FakeBackend, ending: signal.Signals) -> pb.Run:
    """A run whose process ended while the model thought about the tool's result."""
    async with _connected(process) as stub:
        request = pb.StartRunRequest(request=pb.RunAgentRequest(message=QUESTION))
        run_id = (await stub.StartRun(request)).run.id
        await asyncio.wait_for(backend.inference.waiting.wait(), 30)
        await until_observed(stub, run_id)
        run: pb.Run = (await stub.GetRun(pb.GetRunRequest(id=run_id))).run
    process.end(ending)
    return run


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
async def test_a_run_goes_on_after_its_process_ended(tmp_path: Path, keys: TestKeys, ending: signal.Signals) -> None:
    async with fake_backend(keys) as backend:
        process = AgentProcess(tmp_path, keys, backend.target)
        await process.start()
        with as_somebody(keys, "default", "user-1"):
            before = await _interrupted(process, backend, ending)
            backend.inference.release.set()
            await process.start()
            async with _connected(process) as stub, asyncio.timeout(60):
                events = [item.event async for item in stub.WatchRun(pb.WatchRunRequest(id=before.id))]
        process.end()
    ended = events[-1].ended
    assert ended.answer == "The result is 42."
    assert [step.kind for step in ended.steps] == [*(step.kind for step in before.steps), pb.STEP_KIND_ANSWER]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert list(backend.tools.asked.values()) == [1], "the tool's step was done, so it is not done again"
    assert backend.inference.turns[QUESTION] == 3, "of the model's steps only the interrupted one is"


async def test_a_run_whose_caller_a_drain_sent_away_goes_on(tmp_path: Path, keys: TestKeys) -> None:
    async with fake_backend(keys) as backend:
        process = AgentProcess(tmp_path, keys, backend.target)
        await process.start()
        asked = pb.RunAgentRequest(message=QUESTION, idempotency_key="once")
        with as_somebody(keys, "default", "user-1"):
            async with _connected(process) as stub:
                waits = asyncio.ensure_future(stub.RunAgent(asked))
                await asyncio.wait_for(backend.inference.waiting.wait(), 30)
                await asyncio.to_thread(process.end)
                with pytest.raises(grpc.aio.AioRpcError) as sent_away:
                    await waits
            assert sent_away.value.code() is grpc.StatusCode.UNAVAILABLE
            backend.inference.release.set()
            await process.start()
            async with _connected(process) as stub, asyncio.timeout(60):
                run = (await stub.RunAgent(asked)).run
        process.end()
    assert run.answer == "The result is 42."
    assert list(backend.tools.asked.values()) == [1]
