"""Tool calls that wait for a person."""

from typing import Annotated, Any

import orjson
from errand_common.principal import Principal
from fastapi import Depends, Query
from pydantic import AfterValidator, ConfigDict, Field

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import Approval, ApprovalState, Page
from errand_gateway.transport.access import BODY_RESPONSES, CONFLICT, NOT_FOUND, Requires, guarded_router
from errand_gateway.transport.fields import ID_PATTERN, Body, PageDep, ResourceId, Text, bounded_json
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/api/v1/approvals", tags=["approvals"])

Reader = Annotated[Principal, Depends(Requires(Permission.RUNS_READ))]
Decider = Annotated[Principal, Depends(Requires(Permission.RUNS_CREATE))]


class Consent(Body):
    """A call shall run."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"arguments": {"to": "ada@example.com"}, "reason": "the right address"}]}
    )

    arguments: Annotated[
        dict[str, Any] | None,
        AfterValidator(bounded_json(65_536)),
        Field(description="In place of the model's; left out, those stay."),
    ] = None
    reason: Annotated[Text, Field(max_length=2000)] = ""


class Refusal(Body):
    """A call shall not run."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "the wrong customer"}]})

    reason: Annotated[Text, Field(max_length=2000, description="Told to the model too.")] = ""


@router.get("", summary="List approvals")
async def list_approvals(
    page: PageDep,
    services: ServicesDep,
    _caller: Reader,
    run_id: Annotated[str, Query(max_length=64, pattern=ID_PATTERN, description="Only of this run.")] = "",
    state: Annotated[ApprovalState | None, Query(description="Only in this state.")] = None,
) -> Page[Approval]:
    """Calls that wait for a person, and those that were decided."""
    return await services.agents.list_approvals(page, run_id=run_id, state=state)


@router.post("/{approval_id}/approve", summary="Let a call run", responses={**BODY_RESPONSES, **NOT_FOUND, **CONFLICT})
async def approve_call(approval_id: ResourceId, body: Consent, services: ServicesDep, _caller: Decider) -> Approval:
    """The run goes on with the call; the run's person or an administrator decides."""
    arguments = orjson.dumps(body.arguments).decode() if body.arguments is not None else ""
    return await services.agents.approve(approval_id, arguments_json=arguments, reason=body.reason)


@router.post("/{approval_id}/refuse", summary="Refuse a call", responses={**BODY_RESPONSES, **NOT_FOUND, **CONFLICT})
async def refuse_call(approval_id: ResourceId, body: Refusal, services: ServicesDep, _caller: Decider) -> Approval:
    """The run goes on without the call; the model is told why."""
    return await services.agents.refuse(approval_id, reason=body.reason)
