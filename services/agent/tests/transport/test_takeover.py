"""Two replicas on Postgres: one dies, the other goes on with its runs."""

import asyncio
import signal
from pathlib import Path

from errand.agent.v1 import agent_pb2 as pb
from errand.agent.v1 import agent_pb2_grpc
from errand_agent.app import SCHEMA
from errand_agent.testing.backend import FakeBackend, fake_backend
from errand_agent.testing.process import AgentProcess, as_somebody, until_observed
from errand_common.db import migrate
from errand_common.rpc.client import create_channel
from errand_common.testing.keys import TestKeys

Stub = agent_pb2_grpc.AgentServiceStub


def _replica(folder: Path, name: str, keys: TestKeys, backend: FakeBackend, url: str) -> AgentProcess:
    own = folder / name
    own.mkdir()
    return AgentProcess(
        own,
        keys,
        backend.target,
        executor_id=name,
        heartbeat_seconds="0.5",
        dead_after_seconds="4",
        database_url=url,
        dbos_database_url=url.replace("+asyncpg", ""),
    )


async def test_a_replica_takes_over_what_a_dead_one_was_doing(
    tmp_path: Path, keys: TestKeys, postgres_url: str
) -> None:
    await asyncio.to_thread(migrate, postgres_url, package="errand_agent.storage.migrations", schema=SCHEMA)
    async with fake_backend(keys) as backend:
        first, second = (_replica(tmp_path, name, keys, backend, postgres_url) for name in ("agent-0", "agent-1"))
        await asyncio.gather(first.start(), second.start())
        with as_somebody(keys, "default", "user-1"):
            async with create_channel(first.target) as channel:
                held = await _started(Stub(channel), "calculate and hold")
                asking = await _started(Stub(channel), "fetch it")
                await asyncio.wait_for(backend.inference.waiting.wait(), 30)
                await until_observed(Stub(channel), held)
            first.end(signal.SIGKILL)
            backend.inference.release.set()
            async with create_channel(second.target) as channel, asyncio.timeout(40):
                stub = Stub(channel)
                events = [item.event async for item in stub.WatchRun(pb.WatchRunRequest(id=held))]
                assert events[-1].ended.answer == "The result is 42."
                assert [event.sequence for event in events] == list(range(1, len(events) + 1))
                async for item in stub.WatchRun(pb.WatchRunRequest(id=asking)):
                    last = item.event
                    if last.approval.state == pb.APPROVAL_STATE_PENDING:
                        await stub.ApproveCall(pb.ApproveCallRequest(approval_id=last.approval.id))
                assert last.ended.answer == "The result is 42."
        assert second.end() == 0
    assert sorted(backend.tools.asked.values()) == [1, 1]
    assert "took over" in second.log()


async def _started(stub: Stub, message: str) -> str:
    request = pb.StartRunRequest(request=pb.RunAgentRequest(message=message))
    run_id: str = (await stub.StartRun(request)).run.id
    return run_id
