"""Runs that wait: for their conversation, their time, their turn in the queue, or the next time of a schedule."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from errand.agent.v1 import agent_pb2 as pb
from errand.agent.v1 import agent_pb2_grpc, schedules_pb2_grpc
from errand.agent.v1 import schedules_pb2 as schedules
from errand_agent.testing.backend import FakeBackend, fake_backend
from errand_agent.testing.process import AgentProcess, as_somebody
from errand_common.errors import Conflict, InvalidArgument, NotFound
from errand_common.principal import Principal
from errand_common.rpc.client import create_channel, translate_errors
from errand_common.testing.keys import TestKeys

Stub = agent_pb2_grpc.AgentServiceStub


@asynccontextmanager
async def own(folder: Path, keys: TestKeys, **settings: str) -> AsyncIterator[tuple[FakeBackend, Stub, Any]]:
    """A service that the test may hold up."""
    async with fake_backend(keys) as backend:
        process = AgentProcess(folder, keys, backend.target, **settings)
        await process.start()
        with as_somebody(keys, "default", "user-1"):
            async with create_channel(process.target) as channel:
                yield backend, Stub(channel), schedules_pb2_grpc.ScheduleServiceStub(channel)
        backend.inference.release.set()
        assert process.end() == 0


async def _start(stub: Stub, message: str, **more: Any) -> pb.Run:
    request = pb.StartRunRequest(request=pb.RunAgentRequest(message=message, **more))
    run: pb.Run = (await stub.StartRun(request)).run
    return run


async def _ended(stub: Stub, run_id: str) -> pb.Run:
    async with asyncio.timeout(60):
        async for item in stub.WatchRun(pb.WatchRunRequest(id=run_id)):
            last = item.event
    run: pb.Run = last.ended
    return run


async def test_messages_of_a_busy_conversation_are_answered_one_after_another(tmp_path: Path, keys: TestKeys) -> None:
    async with own(tmp_path, keys) as (backend, stub, _):
        first = await _start(stub, "wait a little")
        await asyncio.wait_for(backend.inference.waiting.wait(), 30)
        there = {"conversation_id": first.conversation_id}
        with pytest.raises(Conflict), translate_errors("agent"):
            await _start(stub, "refused", **there)
        queued = [await _start(stub, f"then {n}", when_busy=pb.WHEN_BUSY_QUEUE, **there) for n in range(3)]
        cancelled = (await stub.CancelRun(pb.CancelRunRequest(id=queued[1].id))).run
        assert cancelled.stop_reason == pb.STOP_REASON_CANCELLED
        backend.inference.release.set()
        assert [(await _ended(stub, queued[n].id)).answer for n in (0, 2)] == ["The result is 42."] * 2
        listed = (await stub.ListMessages(pb.ListMessagesRequest(**there))).messages
        said = [message.text for message in listed if message.role == pb.MESSAGE_ROLE_USER]
        assert said == ["wait a little", "then 0", "then 2"]
        roles = [message.role for message in listed]
        assert roles == [pb.MESSAGE_ROLE_USER, pb.MESSAGE_ROLE_ASSISTANT] * 3


async def test_only_so_many_wait_in_a_conversation(tmp_path: Path, keys: TestKeys) -> None:
    async with own(tmp_path, keys) as (backend, stub, _):
        first = await _start(stub, "wait a little")
        await asyncio.wait_for(backend.inference.waiting.wait(), 30)
        more = {"conversation_id": first.conversation_id, "when_busy": pb.WHEN_BUSY_QUEUE}
        for number in range(8):
            await _start(stub, f"then {number}", **more)
        with pytest.raises(Conflict, match="8 messages wait"), translate_errors("agent"):
            await _start(stub, "one too many", **more)


async def test_a_run_begins_at_its_time_and_its_deadline_counts_from_then(stub: Stub, caller: Principal) -> None:
    at = datetime.now(UTC) + timedelta(seconds=3)
    run = await _start(stub, "calculate it", start_at=at)
    assert run.state == pb.RUN_STATE_QUEUED
    ended = await _ended(stub, run.id)
    assert ended.answer == "The result is 42."
    assert ended.ended_at.ToDatetime(UTC) >= at
    with pytest.raises(InvalidArgument, match="start_at"), translate_errors("agent"):
        await stub.RunAgent(pb.RunAgentRequest(message="now", start_at=at))
    with pytest.raises(InvalidArgument, match="366 days"), translate_errors("agent"):
        await _start(stub, "far away", start_at=at + timedelta(days=400))


async def test_the_queue_begins_with_what_is_urgent(tmp_path: Path, keys: TestKeys) -> None:
    async with own(tmp_path, keys, queued_runs_at_once="1") as (backend, stub, _):
        first = await _start(stub, "wait a little", priority=pb.RUN_PRIORITY_NORMAL)
        await asyncio.wait_for(backend.inference.waiting.wait(), 30)
        orders = [pb.RUN_PRIORITY_LOW, pb.RUN_PRIORITY_NORMAL, pb.RUN_PRIORITY_HIGH]
        runs = [await _start(stub, f"order {order}", priority=order) for order in orders]
        at_once = await _start(stub, "at once")
        assert (await _ended(stub, at_once.id)).answer == "The result is 42."
        assert (await stub.GetRun(pb.GetRunRequest(id=first.id))).run.state == pb.RUN_STATE_RUNNING
        backend.inference.release.set()
        ended = [await _ended(stub, run.id) for run in runs]
    moments = [run.ended_at.ToDatetime(UTC) for run in ended]
    assert moments == sorted(moments, reverse=True)


async def test_a_schedule_begins_a_run_each_time_and_none_twice(tmp_path: Path, keys: TestKeys) -> None:
    async with own(tmp_path, keys) as (_, stub, kept):
        wanted = schedules.Schedule(name="morning", cron="0 7 * * mon-fri", message="calculate", time_zone="Asia/Tokyo")
        stored = (await kept.PutSchedule(schedules.PutScheduleRequest(schedule=wanted))).schedule
        following = stored.next_at.ToDatetime(UTC)
        assert (following.hour, following.minute) == (22, 0), "seven in Tokyo"
        with closing(sqlite3.connect(tmp_path / "agent.db", timeout=10)) as connection, connection:
            connection.execute("UPDATE schedules SET next_at = '2020-01-01 07:00:00.000000'")
            connection.execute("UPDATE timers SET due_at = '2020-01-01 07:00:00.000000' WHERE kind = 'schedule'")
        async with asyncio.timeout(30):
            while not (found := await _schedule(kept, "morning")).last_run_id:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)
        assert (await _ended(stub, found.last_run_id)).answer == "The result is 42."
        assert found.next_at.ToDatetime(UTC) > datetime.now(UTC)
        assert len((await stub.ListRuns(pb.ListRunsRequest())).runs) == 1
        wanted.paused = True
        assert not (await kept.PutSchedule(schedules.PutScheduleRequest(schedule=wanted))).schedule.HasField("next_at")
        await kept.DeleteSchedule(schedules.DeleteScheduleRequest(name="morning"))
        with pytest.raises(NotFound), translate_errors("agent"):
            await _schedule(kept, "morning")


async def _schedule(kept: Any, name: str) -> schedules.Schedule:
    found: schedules.Schedule = (await kept.GetSchedule(schedules.GetScheduleRequest(name=name))).schedule
    return found


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cron": "0 7 * * * *"}, "schedule.cron"),
        ({"cron": "61 7 * * *"}, "schedule.cron"),
        ({"cron": "0 0 31 2 *"}, "schedule.cron"),
        ({"time_zone": "Mars/Olympus"}, "schedule.time_zone"),
        ({"time_zone": "../../etc/passwd"}, "schedule.time_zone"),
        ({"message": " "}, "schedule.message"),
        ({"name": "a b"}, "schedule.name"),
    ],
)
async def test_wrong_schedules_are_refused(
    agent_target: str, caller: Principal, change: dict[str, str], field: str
) -> None:
    fields = {"name": "wrong", "cron": "0 7 * * *", "message": "hello", **change}
    async with create_channel(agent_target) as channel:
        kept: Any = schedules_pb2_grpc.ScheduleServiceStub(channel)
        with pytest.raises(InvalidArgument) as refused, translate_errors("agent"):
            await kept.PutSchedule(schedules.PutScheduleRequest(schedule=schedules.Schedule(**fields)))
        assert refused.value.metadata["field"] == field
        assert "wrong" not in [
            row.name for row in (await kept.ListSchedules(schedules.ListSchedulesRequest())).schedules
        ]


async def test_people_have_schedules_of_their_own(agent_target: str, keys: TestKeys) -> None:
    wanted = schedules.Schedule(name="mine", cron="0 7 * * *", message="hello")
    async with create_channel(agent_target) as channel:
        kept: Any = schedules_pb2_grpc.ScheduleServiceStub(channel)
        with as_somebody(keys, "schedulers", "ann"):
            assert (
                await kept.PutSchedule(schedules.PutScheduleRequest(schedule=wanted))
            ).schedule.principal_id == "ann"
        with as_somebody(keys, "schedulers", "bob"):
            with pytest.raises(NotFound), translate_errors("agent"):
                await kept.DeleteSchedule(schedules.DeleteScheduleRequest(name="mine"))
            with pytest.raises(Conflict), translate_errors("agent"):
                await kept.PutSchedule(schedules.PutScheduleRequest(schedule=wanted))
