"""Runs as training data, and people's consent to that."""

from typing import Annotated

from errand_common.principal import Principal
from fastapi import Depends, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict

from errand_gateway.domain.examples import ExampleFilter
from errand_gateway.domain.permissions import Permission
from errand_gateway.transport.access import BODY_RESPONSES, Requires, guarded_router
from errand_gateway.transport.fields import ID_PATTERN, Body
from errand_gateway.transport.lines import described, streamed
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/api/v1", tags=["training data"])

Person = Annotated[Principal, Depends(Requires(Permission.FEEDBACK_WRITE))]
Exporter = Annotated[Principal, Depends(Requires(Permission.EXAMPLES_EXPORT, seconds=3600.0))]
_LINE = '{"messages":[{"role":"user","content":"What is 6 times 7?"}],"run_id":"run_01"}\n'


class Consent(BaseModel):
    """Whether models may learn from the caller's runs."""

    training: bool


class NewConsent(Body):
    """Whether models may learn from the caller's runs."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"training": True}]})

    training: bool


@router.get("/consent", summary="Read your consent")
async def get_consent(services: ServicesDep, _caller: Person) -> Consent:
    """The caller's consent to training; false when never given."""
    return Consent(training=await services.examples.consent())


@router.put("/consent", summary="Give or take back your consent", responses=BODY_RESPONSES)
async def set_consent(body: NewConsent, services: ServicesDep, _caller: Person) -> Consent:
    """From then on; what was taken back is never exported, earlier runs included."""
    await services.examples.set_consent(training=body.training)
    return Consent(training=body.training)


@router.get(
    "/examples",
    summary="Export training data",
    response_class=Response,
    responses=described("JSON lines in chat format, tool calls included; secrets and addresses masked.", _LINE),
)
async def export_examples(
    services: ServicesDep,
    _caller: Exporter,
    agent: Annotated[str, Query(max_length=64, pattern=ID_PATTERN, description="Only of this agent.")] = "",
    since: Annotated[AwareDatetime | None, Query(description="Only runs begun then or later.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Only runs begun before.")] = None,
    approved_only: Annotated[bool, Query(description="Only what somebody found helpful or corrected.")] = False,
    with_calls_only: Annotated[bool, Query(description="Only runs that called a tool.")] = False,
    limit: Annotated[int, Query(ge=1, le=100_000, description="Most examples.")] = 10_000,
) -> StreamingResponse:
    """Answered runs of people who consent now, oldest first, one on a line."""
    wanted = ExampleFilter(agent, since, until, approved_only, with_calls_only, limit)
    return await streamed(services.examples.export(wanted))
