# ruff: noqa: N802 - the methods' names are the protocol's
"""A fake of the agent service's schedules: kept, never due."""

from typing import Any

from errand.agent.v1 import schedules_pb2 as pb
from errand.agent.v1 import schedules_pb2_grpc
from errand_common.db import utc_now
from errand_common.errors import InvalidArgument
from errand_common.principal import current_principal

from errand_gateway.testing.store import TenantStore


class FakeSchedules(schedules_pb2_grpc.ScheduleServiceServicer):
    """Keeps schedules in memory; minutes past the hour are refused from 60 on."""

    def __init__(self) -> None:
        self._schedules: TenantStore[pb.Schedule] = TenantStore("schedule")

    async def PutSchedule(self, request: pb.PutScheduleRequest, context: Any) -> pb.PutScheduleResponse:
        """Makes or replaces one."""
        row = pb.Schedule()
        row.CopyFrom(request.schedule)
        minute = row.cron.split()[0]
        if minute.isdigit() and int(minute) > 59:
            raise InvalidArgument("schedule.cron: no such minute", field="schedule.cron")
        row.principal_id = current_principal().id
        if not row.paused:
            row.next_at.FromDatetime(utc_now())
        return pb.PutScheduleResponse(schedule=self._schedules.put(row.name, row))

    async def GetSchedule(self, request: pb.GetScheduleRequest, context: Any) -> pb.GetScheduleResponse:
        """One schedule."""
        return pb.GetScheduleResponse(schedule=self._schedules.get(request.name))

    async def ListSchedules(self, request: pb.ListSchedulesRequest, context: Any) -> pb.ListSchedulesResponse:
        """By name."""
        by_name = {row.name: row for row in self._schedules.all()}
        return pb.ListSchedulesResponse(schedules=[by_name[name] for name in sorted(by_name)])

    async def DeleteSchedule(self, request: pb.DeleteScheduleRequest, context: Any) -> pb.DeleteScheduleResponse:
        """Removes one."""
        self._schedules.pop(request.name)
        return pb.DeleteScheduleResponse()
