"""Messages that are sent to an agent again and again."""

from collections.abc import Sequence
from typing import Annotated

from errand_common.principal import Principal
from fastapi import Depends, Path
from pydantic import BaseModel, ConfigDict, Field

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import RunPriority
from errand_gateway.domain.schedules import Schedule
from errand_gateway.transport.access import BODY_RESPONSES, CONFLICT, NOT_FOUND, Requires, guarded_router
from errand_gateway.transport.fields import ID_PATTERN, Body, SpokenText
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/api/v1/schedules", tags=["schedules"])

Reader = Annotated[Principal, Depends(Requires(Permission.RUNS_READ))]
Writer = Annotated[Principal, Depends(Requires(Permission.SCHEDULES_WRITE))]
ScheduleName = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", examples=["morning"])]
Reference = Annotated[str, Field(max_length=64, pattern=ID_PATTERN)]


class ScheduleDefinition(Body):
    """When a message is sent, and to whom."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"cron": "0 7 * * mon-fri", "time_zone": "Europe/Berlin", "message": "What is new?"}]
        }
    )

    cron: Annotated[
        str,
        Field(
            min_length=9,
            max_length=128,
            pattern=r"^[0-9A-Za-z*/,\-?#]+( +[0-9A-Za-z*/,\-?#]+){4}$",
            description="Minute, hour, day of month, month, day of week.",
        ),
    ]
    time_zone: Annotated[
        str, Field(max_length=64, pattern=r"^[A-Za-z0-9_+\-/]*$", description="Such as Europe/Berlin; left out, UTC.")
    ] = ""
    message: Annotated[SpokenText, Field(min_length=1, max_length=32_768)]
    agent: Annotated[Reference, Field(description="Left out, the default one.")] = ""
    conversation_id: Annotated[Reference, Field(description="In which it goes on; left out, a new one each time.")] = ""
    priority: RunPriority = RunPriority.AT_ONCE
    paused: bool = False

    def schedule(self, name: str) -> Schedule:
        """The schedule of that name."""
        return Schedule(name=name, **self.model_dump())


class ScheduleList(BaseModel):
    """All there are; a tenant has at most 100."""

    items: Sequence[Schedule]


@router.get("", summary="List schedules")
async def list_schedules(services: ServicesDep, _caller: Reader) -> ScheduleList:
    """The caller's schedules, for an administrator the tenant's, by name."""
    return ScheduleList(items=await services.schedules.list_schedules())


@router.put("/{schedule}", summary="Make a schedule", responses={**BODY_RESPONSES, **CONFLICT, **NOT_FOUND})
async def put_schedule(
    schedule: ScheduleName, body: ScheduleDefinition, services: ServicesDep, _caller: Writer
) -> Schedule:
    """Makes or replaces it; its runs work for the caller, and each time begins one run."""
    return await services.schedules.put_schedule(body.schedule(schedule))


@router.get("/{schedule}", summary="Get a schedule", responses=NOT_FOUND)
async def get_schedule(schedule: ScheduleName, services: ServicesDep, _caller: Reader) -> Schedule:
    """One schedule, when it is next, and what came of the last time."""
    return await services.schedules.get_schedule(schedule)


@router.delete("/{schedule}", status_code=204, summary="Remove a schedule", responses=NOT_FOUND)
async def delete_schedule(schedule: ScheduleName, services: ServicesDep, _caller: Writer) -> None:
    """Removes it; runs that it began go on."""
    await services.schedules.delete_schedule(schedule)
