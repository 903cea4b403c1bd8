"""Runs in the background, and their events."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated

from errand_common.principal import Principal
from fastapi import Depends, Header, Query, Request, Response
from pydantic import AwareDatetime, ConfigDict, Field

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import (
    ForkCommand,
    Page,
    Run,
    RunCommand,
    RunFilter,
    RunPriority,
    RunState,
    StopReason,
)
from errand_gateway.transport.access import (
    BODY_RESPONSES,
    CONFLICT,
    NOT_FOUND,
    Requires,
    guarded_router,
)
from errand_gateway.transport.context import context_of
from errand_gateway.transport.fields import ID_PATTERN, Body, IdempotencyKey, PageDep, ResourceId, Text
from errand_gateway.transport.routes.chat import ChatRequest
from errand_gateway.transport.run_events import run_events
from errand_gateway.transport.services import Services, ServicesDep
from errand_gateway.transport.spending import hold_for_run
from errand_gateway.transport.sse import EVENT_SCHEMA, event_stream, started

router = guarded_router(prefix="/api/v1/runs", tags=["runs"])

Reader = Annotated[Principal, Depends(Requires(Permission.RUNS_READ))]
Starter = Annotated[Principal, Depends(Requires(Permission.RUNS_CREATE))]
Watcher = Annotated[Principal, Depends(Requires(Permission.RUNS_READ, seconds=3600.0))]


class RunRequest(ChatRequest):
    """A message for an agent, answered in the background."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"message": "Sum up the news.", "priority": "low"}]})

    priority: Annotated[RunPriority, Field(description="Other than `at_once`: from a queue, in this order.")] = (
        RunPriority.AT_ONCE
    )
    start_at: Annotated[
        AwareDatetime | None, Field(description="It does not begin before, at most 366 days ahead.")
    ] = None

    def command(self, idempotency_key: str | None) -> RunCommand:
        """What the agent service is asked."""
        return replace(super().command(idempotency_key), priority=self.priority, start_at=self.start_at)


class Fork(Body):
    """Where a run goes on, and with what."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"from_model_step": 2, "model": "errand-tiny"}]})

    from_model_step: Annotated[
        int,
        Field(ge=1, le=64, description="The model step, from 1, that is done anew; those before keep their results."),
    ]
    instructions: Annotated[Text, Field(max_length=8192, description="In place of the agent's.")] | None = None
    model: Annotated[Text, Field(max_length=256, description="In place of the agent's.")] | None = None

    def command(self) -> ForkCommand:
        """What the agent service is asked."""
        return ForkCommand(self.from_model_step, self.instructions, self.model)


@router.post(
    "",
    status_code=202,
    summary="Start a run in the background",
    responses={**BODY_RESPONSES, **NOT_FOUND, **CONFLICT},
)
async def start_run(
    body: RunRequest,
    request: Request,
    response: Response,
    services: ServicesDep,
    caller: Starter,
    idempotency_key: IdempotencyKey = None,
) -> Run:
    """Returns at once; the run goes on whether or not anybody watches."""
    await hold_for_run(request, services, caller, body.agent)
    run = await services.agents.start(body.command(idempotency_key))
    return await _accepted(run, request, response, services, start_at=body.start_at)


async def _accepted(
    run: Run, request: Request, response: Response, services: Services, *, start_at: datetime | None = None
) -> Run:
    """What it uses is booked when it ends."""
    context = context_of(request.scope)
    context.run_id, context.agent = run.id, run.agent
    if run.state is not RunState.ENDED:
        await services.background.follow(run, context, start_at=start_at)
    response.headers["Location"] = f"/api/v1/runs/{run.id}"
    return run


@router.get("", summary="List runs")
async def list_runs(
    page: PageDep,
    services: ServicesDep,
    _caller: Reader,
    conversation_id: Annotated[
        str, Query(max_length=64, pattern=ID_PATTERN, description="Only of this conversation.")
    ] = "",
    state: Annotated[RunState | None, Query(description="Only in this state.")] = None,
    agent: Annotated[str, Query(max_length=64, pattern=ID_PATTERN, description="Only of this agent.")] = "",
    stop_reason: Annotated[
        list[StopReason],
        Query(
            max_length=16,
            description="Only those that ended so; `unavailable`, `internal` and `incompatible` can be redriven.",
        ),
    ] = [],  # noqa: B006 - FastAPI copies it
    parent_run_id: Annotated[
        str, Query(max_length=64, pattern=ID_PATTERN, description="Only those that this run called.")
    ] = "",
) -> Page[Run]:
    """The tenant's runs without their steps, newest first."""
    wanted = RunFilter(conversation_id, state, agent, list(dict.fromkeys(stop_reason)), parent_run_id)
    return await services.agents.list_runs(page, wanted)


@router.get("/{run_id}", summary="Get a run", responses=NOT_FOUND)
async def get_run(run_id: ResourceId, services: ServicesDep, _caller: Reader) -> Run:
    """One run with its steps."""
    return await services.agents.get_run(run_id)


@router.post("/{run_id}/cancel", summary="Cancel a run", responses={**NOT_FOUND, **CONFLICT})
async def cancel_run(
    run_id: ResourceId,
    services: ServicesDep,
    _caller: Annotated[Principal, Depends(Requires(Permission.RUNS_CREATE))],
) -> Run:
    """Cancels a run; one that has ended stays as it is."""
    return await services.agents.cancel_run(run_id)


@router.post(
    "/{run_id}/fork",
    status_code=202,
    summary="Go on from a step of a run",
    responses={**BODY_RESPONSES, **NOT_FOUND, **CONFLICT},
)
async def fork_run(
    run_id: ResourceId, body: Fork, request: Request, response: Response, services: ServicesDep, caller: Starter
) -> Run:
    """Begins a run in a conversation of its own; what the ended one did before the step is not done again."""
    await hold_for_run(request, services, caller, (await services.agents.get_run(run_id)).agent)
    return await _accepted(await services.agents.fork_run(run_id, body.command()), request, response, services)


@router.post(
    "/{run_id}/redrive", status_code=202, summary="Try a failed run again", responses={**NOT_FOUND, **CONFLICT}
)
async def redrive_run(
    run_id: ResourceId, request: Request, response: Response, services: ServicesDep, caller: Starter
) -> Run:
    """After `unavailable`, `internal` or `incompatible`: goes on at its last step, in a conversation of its own."""
    await hold_for_run(request, services, caller, (await services.agents.get_run(run_id)).agent)
    return await _accepted(await services.agents.redrive_run(run_id), request, response, services)


@router.get(
    "/{run_id}/events",
    summary="Follow a run",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events, their ids the event numbers.",
            "content": {
                "text/event-stream": {
                    "schema": EVENT_SCHEMA,
                    "example": 'id: 1\nevent: started\ndata: {"run_id":"run_01"}\n\n',
                }
            },
        },
        **NOT_FOUND,
    },
)
async def run_event_stream(
    run_id: ResourceId,
    request: Request,
    services: ServicesDep,
    _caller: Watcher,
    last_event_id: Annotated[
        str | None,
        Header(
            pattern=r"^[0-9]{1,15}$",
            description="The last id you have seen; events after it are sent.",
        ),
    ] = None,
) -> Response:
    """The run's events so far and those to come, until it ends; watching does not hold the run."""
    context = context_of(request.scope)
    context.streamed = True
    events = await started(services.agents.watch(run_id, int(last_event_id or 0)))
    return event_stream(
        run_events(events, context),
        request_id=context.request_id,
        path=request.url.path,
        heartbeat_seconds=services.heartbeat_seconds,
    )
