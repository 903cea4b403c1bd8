"""ScheduleService over gRPC: converts, calls one use case, converts back."""

# ruff: noqa: N802 - gRPC names its methods as the contract does

from __future__ import annotations

from typing import Any

from errand.agent.v1 import schedules_pb2 as pb
from errand.agent.v1 import schedules_pb2_grpc

from errand_agent.domain.schedules import Schedule
from errand_agent.transport.convert import priority, priority_name, timestamp
from errand_agent.use_cases.schedules import ScheduleUseCases


class ScheduleServicer(schedules_pb2_grpc.ScheduleServiceServicer):
    """Serves schedules."""

    def __init__(self, schedules: ScheduleUseCases) -> None:
        self._schedules = schedules

    async def PutSchedule(self, request: pb.PutScheduleRequest, context: Any) -> pb.PutScheduleResponse:
        """Makes or replaces one."""
        given = request.schedule
        wanted = Schedule(
            name=given.name,
            cron=given.cron,
            message=given.message,
            time_zone=given.time_zone,
            agent=given.agent,
            conversation_id=given.conversation_id,
            priority=priority(given.priority),
            paused=given.paused,
        )
        return pb.PutScheduleResponse(schedule=_message(await self._schedules.put(wanted)))

    async def GetSchedule(self, request: pb.GetScheduleRequest, context: Any) -> pb.GetScheduleResponse:
        """One schedule."""
        return pb.GetScheduleResponse(schedule=_message(await self._schedules.get(request.name)))

    async def ListSchedules(self, request: pb.ListSchedulesRequest, context: Any) -> pb.ListSchedulesResponse:
        """By name."""
        return pb.ListSchedulesResponse(schedules=[_message(found) for found in await self._schedules.all()])

    async def DeleteSchedule(self, request: pb.DeleteScheduleRequest, context: Any) -> pb.DeleteScheduleResponse:
        """Removes one."""
        await self._schedules.delete(request.name)
        return pb.DeleteScheduleResponse()


def _message(schedule: Schedule) -> pb.Schedule:
    return pb.Schedule(
        name=schedule.name,
        cron=schedule.cron,
        time_zone=schedule.time_zone,
        agent=schedule.agent,
        message=schedule.message,
        conversation_id=schedule.conversation_id,
        priority=priority_name(schedule.priority),
        paused=schedule.paused,
        next_at=timestamp(schedule.next_at) if schedule.next_at else None,
        last_run_id=schedule.last_run_id,
        last_error=schedule.last_error,
        principal_id=schedule.principal_id,
    )
