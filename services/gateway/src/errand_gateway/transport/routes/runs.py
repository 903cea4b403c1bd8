"""Runs in the background, and their events."""

from typing import Annotated

from errand_common.principal import Principal
from fastapi import Depends, Header, Query, Request, Response

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import Page, Run, RunState
from errand_gateway.transport.access import (
    BODY_RESPONSES,
    CONFLICT,
    NOT_FOUND,
    Requires,
    guarded_router,
)
from errand_gateway.transport.context import context_of
from errand_gateway.transport.fields import ID_PATTERN, IdempotencyKey, PageDep, ResourceId
from errand_gateway.transport.routes.chat import ChatRequest
from errand_gateway.transport.run_events import run_events
from errand_gateway.transport.services import ServicesDep
from errand_gateway.transport.spending import hold_for_run
from errand_gateway.transport.sse import EVENT_SCHEMA, event_stream, started

router = guarded_router(prefix="/api/v1/runs", tags=["runs"])

Reader = Annotated[Principal, Depends(Requires(Permission.RUNS_READ))]
Starter = Annotated[Principal, Depends(Requires(Permission.RUNS_CREATE))]
Watcher = Annotated[Principal, Depends(Requires(Permission.RUNS_READ, seconds=3600.0))]


@router.post(
    "",
    status_code=202,
    summary="Start a run in the background",
    responses={**BODY_RESPONSES, **NOT_FOUND, **CONFLICT},
)
async def start_run(
    body: ChatRequest,
    request: Request,
    response: Response,
    services: ServicesDep,
    caller: Starter,
    idempotency_key: IdempotencyKey = None,
) -> Run:
    """Returns at once; the run goes on whether or not anybody watches."""
    context = context_of(request.scope)
    await hold_for_run(request, services, caller, body.agent)
    run = await services.agents.start(body.command(idempotency_key))
    context.run_id, context.agent = run.id, run.agent
    if run.state is not RunState.ENDED:
        services.background.follow(run, context)
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
) -> Page[Run]:
    """The tenant's runs without their steps, newest first."""
    return await services.agents.list_runs(page, conversation_id=conversation_id, state=state)


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
