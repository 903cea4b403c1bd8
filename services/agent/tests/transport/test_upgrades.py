"""Runs that another version of the service began, and one that another replica goes on with."""

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from errand.agent.v1 import agent_pb2 as pb
from errand.agent.v1 import agent_pb2_grpc
from errand_agent.testing.backend import fake_backend
from errand_agent.testing.process import AgentProcess, as_somebody, until_observed
from errand_common.rpc.client import create_channel
from errand_common.testing.keys import TestKeys

Stub = agent_pb2_grpc.AgentServiceStub
QUESTION = "calculate and hold"
RENAMED = "UPDATE operation_outputs SET function_name = ? WHERE workflow_uuid = ? AND function_name = ?"
RESHAPED = """UPDATE operation_outputs SET output = '{"said": ""}' WHERE workflow_uuid = ? AND function_name = ?"""
TAKEN = "UPDATE workflow_status SET owner_xid = 'another' WHERE workflow_uuid = ?"


@asynccontextmanager
async def _connected(process: AgentProcess) -> AsyncIterator[Stub]:
    async with create_channel(process.target) as channel, asyncio.timeout(60):
        await channel.channel_ready()
        yield Stub(channel)


async def _held(stub: Stub) -> str:
    """A run that thinks about its tool's result until the test lets it."""
    run = (await stub.StartRun(pb.StartRunRequest(request=pb.RunAgentRequest(message=QUESTION)))).run
    await until_observed(stub, run.id)
    run_id: str = run.id
    return run_id


async def _ended(stub: Stub, run_id: str) -> pb.Run:
    events = [item.event async for item in stub.WatchRun(pb.WatchRunRequest(id=run_id))]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    ended: pb.Run = events[-1].ended
    return ended


def _in_step_log(folder: Path, statement: str, *values: str) -> Any:
    """What the statement finds, or how many rows it changed, in what is remembered of runs."""
    with closing(sqlite3.connect(folder / "agent-dbos.db")) as connection:
        found = connection.execute(statement, values)
        rows = found.fetchall()
        connection.commit()
    return rows or found.rowcount


async def test_runs_of_another_version_go_on_or_end_and_say_why(tmp_path: Path, keys: TestKeys) -> None:
    async with fake_backend(keys) as backend:
        process = AgentProcess(tmp_path, keys, backend.target)
        await process.start()
        with as_somebody(keys, "default", "user-1"):
            async with _connected(process) as stub:
                same, renamed, reshaped = [await _held(stub) for _ in range(3)]
            process.end(signal.SIGKILL)
            assert _in_step_log(tmp_path, RENAMED, "1.ponder", renamed, "1.think") == 1
            assert _in_step_log(tmp_path, RESHAPED, reshaped, "1.think") == 1
            backend.inference.release.set()
            await process.start()
            async with _connected(process) as stub:
                assert (await _ended(stub, same)).answer == "The result is 42."
                for run_id in (renamed, reshaped):
                    ended = await _ended(stub, run_id)
                    assert ended.stop_reason == pb.STOP_REASON_INCOMPATIBLE
                    assert "Another version of the service began this run" in ended.answer
                next_one = pb.RunAgentRequest(message="hello", conversation_id=ended.conversation_id)
                assert (await stub.RunAgent(next_one)).run.stop_reason == pb.STOP_REASON_ANSWER
                assert _in_step_log(tmp_path, RENAMED, "1.think", renamed, "1.ponder") == 1
                again = (await stub.RedriveRun(pb.RedriveRunRequest(id=renamed))).run
                assert (await _ended(stub, again.id)).answer == "The result is 42."
        process.end()
    assert list(backend.tools.asked.values()) == [1, 1, 1], "no tool is asked for what is remembered"
    found = _in_step_log(tmp_path, "SELECT DISTINCT application_version FROM workflow_status")
    assert found == [("agent-3",)], "with another one, no later or earlier version would go on with these runs"


async def test_a_run_that_another_replica_has_is_not_ended_here(tmp_path: Path, keys: TestKeys) -> None:
    async with fake_backend(keys) as backend:
        process = AgentProcess(tmp_path, keys, backend.target)
        await process.start()
        with as_somebody(keys, "default", "user-1"):
            async with _connected(process) as stub:
                run_id = await _held(stub)
                await asyncio.wait_for(backend.inference.waiting.wait(), 30)
                assert _in_step_log(tmp_path, TAKEN, run_id) == 1
                backend.inference.release.set()
                while "no longer owned by this execution" not in process.log():  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.05)
                run = (await stub.GetRun(pb.GetRunRequest(id=run_id))).run
                assert (run.state, run.answer) == (pb.RUN_STATE_RUNNING, "")
            process.end(signal.SIGKILL)
            await process.start()
            async with _connected(process) as stub:
                assert (await _ended(stub, run_id)).answer == "The result is 42."
        process.end()
    assert list(backend.tools.asked.values()) == [1]
