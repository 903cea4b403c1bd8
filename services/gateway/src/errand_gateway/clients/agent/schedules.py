"""Schedules."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import grpc.aio
from errand.agent.v1 import schedules_pb2 as pb
from errand.agent.v1.schedules_pb2_grpc import ScheduleServiceStub
from errand_common.rpc.client import deadline_seconds, translate_errors

from errand_gateway.clients import conversion as convert
from errand_gateway.clients.agent.client import DEPENDENCY
from errand_gateway.clients.agent.messages import priority, priority_name
from errand_gateway.domain.schedules import Schedule

if TYPE_CHECKING:
    from errand.agent.v1.schedules_pb2_grpc import ScheduleServiceAsyncStub


class GrpcScheduleBackend:
    """ScheduleBackend on a channel; `call_seconds` bounds each call."""

    def __init__(self, channel: grpc.aio.Channel, *, call_seconds: float = 10.0) -> None:
        self._stub: ScheduleServiceAsyncStub = ScheduleServiceStub(channel)
        self._call_seconds = call_seconds

    @property
    def _timeout(self) -> float:
        return deadline_seconds(self._call_seconds)

    async def put_schedule(self, schedule: Schedule) -> Schedule:
        """Makes or replaces a schedule of the caller."""
        wanted = pb.Schedule(
            name=schedule.name,
            cron=schedule.cron,
            time_zone=schedule.time_zone,
            agent=schedule.agent,
            message=schedule.message,
            conversation_id=schedule.conversation_id,
            priority=priority_name(schedule.priority),
            paused=schedule.paused,
        )
        with translate_errors(DEPENDENCY):
            response = await self._stub.PutSchedule(pb.PutScheduleRequest(schedule=wanted), timeout=self._timeout)
        return _schedule(response.schedule)

    async def get_schedule(self, name: str) -> Schedule:
        """One schedule."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.GetSchedule(pb.GetScheduleRequest(name=name), timeout=self._timeout)
        return _schedule(response.schedule)

    async def list_schedules(self) -> Sequence[Schedule]:
        """The schedules by name."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListSchedules(pb.ListSchedulesRequest(), timeout=self._timeout)
        return [_schedule(item) for item in response.schedules]

    async def delete_schedule(self, name: str) -> None:
        """Removes a schedule."""
        with translate_errors(DEPENDENCY):
            await self._stub.DeleteSchedule(pb.DeleteScheduleRequest(name=name), timeout=self._timeout)


def _schedule(message: pb.Schedule) -> Schedule:
    return Schedule(
        name=message.name,
        cron=message.cron,
        message=message.message,
        time_zone=message.time_zone,
        agent=message.agent,
        conversation_id=message.conversation_id,
        priority=priority(message.priority),
        paused=message.paused,
        next_at=convert.moment(message, "next_at"),
        last_run_id=message.last_run_id,
        last_error=message.last_error,
        principal_id=message.principal_id,
    )
