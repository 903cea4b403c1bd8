"""The effect ledger: what tool calls did, and those a person must settle."""

from typing import Annotated, Any

import orjson
from errand_common.principal import Principal
from fastapi import Depends, Query
from pydantic import AfterValidator, ConfigDict, Field

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import Page
from errand_gateway.domain.tool_resources import Effect, EffectState
from errand_gateway.transport.access import (
    BODY_RESPONSES,
    CONFLICT,
    NOT_FOUND,
    Requires,
    guarded_router,
)
from errand_gateway.transport.fields import ID_PATTERN, Body, PageDep, ResourceName, bounded_json
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/api/v1/effects", tags=["effects"])


class Settlement(Body):
    """What the run shall see as the call's result."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"result": {"status": "sent", "message_id": "m-17"}}]})

    result: Annotated[Any, AfterValidator(bounded_json(1_048_576)), Field(description="Any JSON value.")]


@router.get("", summary="List effects")
async def list_effects(
    page: PageDep,
    services: ServicesDep,
    _caller: Annotated[Principal, Depends(Requires(Permission.EFFECTS_READ))],
    run_id: Annotated[str, Query(max_length=128, pattern=ID_PATTERN)] = "",
    state: Annotated[EffectState | None, Query()] = None,
) -> Page[Effect]:
    """The ledger's entries, newest first."""
    return await services.tools.list_effects(page, run_id=run_id, state=state)


@router.post(
    "/{effect_id}/settle",
    summary="Settle an effect",
    responses={**BODY_RESPONSES, **NOT_FOUND, **CONFLICT},
)
async def settle_effect(
    effect_id: ResourceName,
    body: Settlement,
    services: ServicesDep,
    _caller: Annotated[Principal, Depends(Requires(Permission.EFFECTS_SETTLE))],
) -> Effect:
    """Says what became of a call whose outcome a crash has hidden."""
    return await services.tools.settle_effect(effect_id, orjson.dumps(body.result).decode())
