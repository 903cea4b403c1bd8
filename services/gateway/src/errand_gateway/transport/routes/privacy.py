"""How long things are kept; what is kept of a person, and its erasure."""

from typing import Annotated

from errand_common.principal import Principal
from fastapi import Depends, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.privacy import Retention
from errand_gateway.transport.access import BODY_RESPONSES, CONFLICT, Requires, guarded_router
from errand_gateway.transport.fields import ID_PATTERN, Body
from errand_gateway.transport.lines import described, streamed
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/api/v1/privacy", tags=["privacy"])

Reader = Annotated[Principal, Depends(Requires(Permission.CONVERSATIONS_READ))]
Exporter = Annotated[Principal, Depends(Requires(Permission.CONVERSATIONS_READ, seconds=3600.0))]
Eraser = Annotated[Principal, Depends(Requires(Permission.CONVERSATIONS_WRITE))]
Keeper = Annotated[Principal, Depends(Requires(Permission.RETENTION_WRITE))]
Days = Annotated[int, Field(ge=0, le=3650)]


class NewRetention(Body):
    """Days since things were last used after which they are deleted; 0 keeps them for ever."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"conversation_days": 90, "workflow_run_days": 30, "fact_days": 365}]}
    )

    conversation_days: Annotated[Days, Field(description="With messages, runs, steps and approvals.")] = 0
    workflow_run_days: Annotated[Days, Field(description="Those that have ended.")] = 0
    fact_days: Annotated[Days, Field(description="Since they were last told.")] = 0


class PersonToErase(Body):
    """Whose data is erased."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"principal_id": "key_0190c0ffee"}, {}]})

    principal_id: Annotated[
        str, Field(max_length=128, pattern=ID_PATTERN, description="For an administrator; left out, the caller.")
    ] = ""


class Erased(BaseModel):
    """What was erased; looking for it found nothing more."""

    erased: dict[str, int] = Field(description="Rows by table.")


@router.get("/retention", summary="Read how long things are kept")
async def get_retention(services: ServicesDep, _caller: Reader) -> Retention:
    """The tenant's retention; `swept_at` is when what is older was last deleted."""
    return await services.privacy.retention()


@router.put("/retention", summary="Change how long things are kept", responses=BODY_RESPONSES)
async def set_retention(body: NewRetention, services: ServicesDep, _caller: Keeper) -> Retention:
    """What is older is deleted soon, and from then on every hour."""
    return await services.privacy.set_retention(
        Retention(body.conversation_days, body.workflow_run_days, body.fact_days)
    )


@router.get(
    "/export",
    summary="Export a person's data",
    response_class=Response,
    responses=described("A row a line.", '{"table":"messages","row":{"id":"msg_01","text":"Hello"}}\n'),
)
async def export_person(
    services: ServicesDep,
    _caller: Exporter,
    principal_id: Annotated[
        str, Query(max_length=128, pattern=ID_PATTERN, description="For an administrator; left out, the caller.")
    ] = "",
) -> StreamingResponse:
    """All that the agents store of the caller; an administrator may name another person of the tenant."""
    return await streamed(services.privacy.export_person(principal_id))


@router.post("/erase", summary="Erase a person's data", responses={**BODY_RESPONSES, **CONFLICT})
async def erase_person(body: PersonToErase, services: ServicesDep, _caller: Eraser) -> Erased:
    """Ends the person's runs and deletes all that the agents store; documents have `/api/v1/deletions`."""
    return Erased(erased=dict(await services.privacy.erase_person(body.principal_id)))
