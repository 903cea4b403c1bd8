"""Feedback on answers."""

from typing import Annotated

from errand_common.principal import Principal
from fastapi import Depends
from pydantic import ConfigDict, Field

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import Feedback
from errand_gateway.transport.access import (
    BODY_RESPONSES,
    CONFLICT,
    NOT_FOUND,
    Requires,
    guarded_router,
)
from errand_gateway.transport.fields import ID_PATTERN, Body, Text
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/api/v1", tags=["feedback"])


class NewFeedback(Body):
    """What you think of an answer."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"run_id": "run_0190c0ffee", "helpful": False, "correction": "21 days."}]}
    )

    run_id: Annotated[str, Field(min_length=1, max_length=64, pattern=ID_PATTERN)]
    helpful: bool
    comment: Annotated[Text, Field(max_length=4000)] = ""
    correction: Annotated[Text, Field(max_length=32_768, description="What the answer should have been.")] = ""


@router.post(
    "/feedback",
    status_code=204,
    summary="Rate an answer",
    responses={**BODY_RESPONSES, **NOT_FOUND, **CONFLICT},
)
async def submit_feedback(
    body: NewFeedback,
    services: ServicesDep,
    _caller: Annotated[Principal, Depends(Requires(Permission.FEEDBACK_WRITE))],
) -> None:
    """Stores feedback on a run; a second one replaces the first."""
    await services.agents.submit_feedback(Feedback(body.run_id, body.helpful, body.comment, body.correction))
