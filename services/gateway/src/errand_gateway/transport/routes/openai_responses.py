"""POST /v1/responses and what belongs to it, as OpenAI's clients call them."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Final

import orjson
from errand_common.db import utc_now
from errand_common.errors import Conflict, NotFound
from errand_common.principal import Principal
from fastapi import Depends, Path, Query, Request, Response
from pydantic import BaseModel
from sse_starlette import ServerSentEvent

from errand_gateway.domain.permissions import Permission, require
from errand_gateway.domain.resources import JsonObject, RunCommand, RunState
from errand_gateway.domain.responses import StoredResponse
from errand_gateway.transport.access import Requires, openai_router
from errand_gateway.transport.context import context_of
from errand_gateway.transport.fields import IdempotencyKey
from errand_gateway.transport.openai import response_answers as answers
from errand_gateway.transport.openai.answers import finish_of_run, note_turn
from errand_gateway.transport.openai.requests import AGENT_PREFIX, generate_command
from errand_gateway.transport.openai.response_bodies import ResponseRequest
from errand_gateway.transport.openai.response_requests import (
    chat_request,
    conversation_of,
    input_items,
    refuse_unsupported,
    run_command,
)
from errand_gateway.transport.presence import until_gone
from errand_gateway.transport.services import Services, ServicesDep
from errand_gateway.transport.spending import DEFAULT_MAX_TOKENS, hold_for_model, hold_for_run
from errand_gateway.transport.sse import EVENT_SCHEMA, event_stream, started
from errand_gateway.transport.tracing import describe_chat

router = openai_router(prefix="/v1/responses", tags=["openai"])

User = Annotated[Principal, Depends(Requires(Permission.MODELS_USE))]
ResponseId = Annotated[str, Path(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$", examples=["resp_01"])]
_OBJECT: Final[dict[str, Any]] = {
    "schema": {"type": "object"},
    "example": {"id": "resp_01", "object": "response", "status": "completed", "output": []},
}
_RESPONSE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The response.", "content": {"application/json": _OBJECT}}
}


class DeletedResponse(BaseModel):
    """That a response is gone."""

    id: str
    object: str = "response"
    deleted: bool = True


class ItemList(BaseModel):
    """Items of a request."""

    object: str = "list"
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class _Exchange:
    """One request on its way to a response."""

    def __init__(
        self,
        body: ResponseRequest,
        request: Request,
        services: Services,
        caller: Principal,
        earlier: StoredResponse | None,
    ) -> None:
        self.body = body
        self.request = request
        self.services = services
        self.caller = caller
        self.context = context_of(request.scope)
        self.id = answers.new_response_id()
        self.items = input_items(body)
        self.history = [*earlier.history, *earlier.items, *earlier.body["output"]] if earlier else []
        self.conversation_id = conversation_of(body) or (earlier.conversation_id if earlier else "")

    def base(self, status: str = "in_progress") -> JsonObject:
        """The response before there is output."""
        return answers.skeleton(self.body, self.id, status)

    async def keep(self, final: JsonObject, *, run_id: str = "", conversation_id: str = "", done: bool = True) -> None:
        """Stores the response unless that is not wanted."""
        if self.body.store is False and not self.body.background:
            return
        stored = StoredResponse(
            id=self.id,
            tenant_id=self.caller.tenant_id,
            created_at=utc_now(),
            model=self.body.model,
            run_id=run_id,
            conversation_id=conversation_id,
            final=done,
            body=final,
            items=self.items,
            history=self.history,
        )
        await self.services.responses.add(stored)

    async def streamed(self, events: AsyncIterator[answers.Event], stream: answers.EventStream) -> Response:
        """The events as they come; the response is stored before its last event is sent."""
        self.context.streamed = True
        # Made before anything is read, since events are numbered as they are made.
        begin = stream.begin()
        return event_stream(
            self._told(begin, await started(events), stream),
            request_id=self.context.request_id,
            path=self.request.url.path,
            heartbeat_seconds=self.services.heartbeat_seconds,
        )

    async def _told(
        self, begin: Sequence[answers.Event], events: AsyncIterator[answers.Event], stream: answers.EventStream
    ) -> AsyncIterator[ServerSentEvent]:
        for event in begin:
            yield _sent(event)
        async for event in events:
            if stream.final is not None and event["type"].startswith("response.") and "response" in event:
                extra = stream.final.get("errand", {})
                conversation = extra.get("conversation_id", "")
                await self.keep(stream.final, run_id=extra.get("run_id", ""), conversation_id=conversation)
            yield _sent(event)


def _sent(event: answers.Event) -> ServerSentEvent:
    return ServerSentEvent(data=orjson.dumps(event).decode(), event=event["type"], sep="\n")


@router.post(
    "",
    summary="Make a response",
    responses={
        200: {
            "description": "The response; with `stream` its events.",
            "content": {
                "application/json": _OBJECT,
                "text/event-stream": {"schema": EVENT_SCHEMA, "example": "event: response.completed\ndata: {}\n\n"},
            },
        }
    },
    response_class=Response,
)
async def create_response(
    body: ResponseRequest,
    request: Request,
    services: ServicesDep,
    caller: User,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """A response by a served model, or by an agent when the model is `agent:NAME`."""
    refuse_unsupported(body)
    earlier = None
    if body.previous_response_id:
        earlier = await _current(services, caller, body.previous_response_id)
    exchange = _Exchange(body, request, services, caller, earlier)
    if body.model.startswith(AGENT_PREFIX):
        require(caller, Permission.RUNS_CREATE)
        return await _by_agent(exchange, idempotency_key)
    return await _by_model(exchange)


async def _by_model(exchange: _Exchange) -> Response:
    services, context = exchange.services, exchange.context
    chat = chat_request(exchange.body, [*exchange.history, *exchange.items])
    command = generate_command(chat)
    context.model = command.model
    size = len(chat.model_dump_json(exclude_none=True).encode())
    most = exchange.body.max_output_tokens or DEFAULT_MAX_TOKENS
    await hold_for_model(exchange.request, services, exchange.caller, command.model, prompt_bytes=size, max_tokens=most)
    if exchange.body.stream:
        stream = answers.EventStream(exchange.base())
        events = answers.turn_events(services.models.stream(command), stream, context)
        return await exchange.streamed(events, stream)
    turn = await until_gone(exchange.request, services.models.generate(command))
    note_turn(turn, context)
    final = answers.of_turn(exchange.base(), turn, answers.turn_output(turn))
    await exchange.keep(final)
    return _json(final)


async def _by_agent(exchange: _Exchange, idempotency_key: str | None) -> Response:
    services, context = exchange.services, exchange.context
    # An agent that has the conversation knows what was said before.
    said = exchange.items if exchange.conversation_id else [*exchange.history, *exchange.items]
    command = run_command(exchange.body, said, exchange.conversation_id, idempotency_key)
    context.agent, context.model = command.agent, exchange.body.model
    describe_chat(command.message, session=command.conversation_id, user=context.principal_id)
    await hold_for_run(exchange.request, services, exchange.caller, command.agent)
    if exchange.body.background:
        return await _in_background(exchange, command)
    if exchange.body.stream:
        stream = answers.EventStream(exchange.base())
        events = answers.run_events(services.agents.stream(command), stream, context)
        return await exchange.streamed(events, stream)
    run = await until_gone(exchange.request, services.agents.run(command))
    await services.background.note_or_follow(run, context)
    finish_of_run(run)
    final = answers.of_run(exchange.base(), run)
    ended = run.state is RunState.ENDED
    await exchange.keep(final, run_id=run.id, conversation_id=run.conversation_id, done=ended)
    return _json(final)


async def _in_background(exchange: _Exchange, command: RunCommand) -> Response:
    run = await exchange.services.agents.start(command)
    exchange.context.run_id = run.id
    await exchange.services.background.follow(run, exchange.context)
    body = exchange.base("queued")
    await exchange.keep(body, run_id=run.id, conversation_id=run.conversation_id, done=False)
    return _json(body)


@router.get("/{response_id}", summary="Get a response", responses=_RESPONSE, response_class=Response)
async def get_response(response_id: ResponseId, services: ServicesDep, caller: User) -> Response:
    """A stored response; one in the background tells how far it is."""
    return _json((await _current(services, caller, response_id)).body)


@router.post("/{response_id}/cancel", summary="Cancel a response", responses=_RESPONSE, response_class=Response)
async def cancel_response(response_id: ResponseId, services: ServicesDep, caller: User) -> Response:
    """Cancels a response in the background; one that is final stays as it is."""
    stored = await services.responses.get(caller.tenant_id, response_id)
    if not stored.run_id or not stored.body.get("background"):
        raise Conflict("only a background response can be cancelled", resource="response", id=response_id)
    if not stored.final:
        await services.agents.cancel_run(stored.run_id)
    return _json((await _current(services, caller, response_id)).body)


@router.delete("/{response_id}", summary="Delete a response")
async def delete_response(response_id: ResponseId, services: ServicesDep, caller: User) -> DeletedResponse:
    """Deletes a response; what it was made from stays."""
    await services.responses.delete(caller.tenant_id, response_id)
    return DeletedResponse(id=response_id)


@router.get("/{response_id}/input_items", summary="List a response's input")
async def list_input_items(
    response_id: ResponseId,
    services: ServicesDep,
    caller: User,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Annotated[str, Query(pattern="^(asc|desc)$")] = "desc",
    after: Annotated[str, Query(max_length=128, description="Items after this id.")] = "",
) -> ItemList:
    """What the response answered, with what was said before it."""
    stored = await services.responses.get(caller.tenant_id, response_id)
    items = [*stored.history, *stored.items]
    if order == "desc":
        items.reverse()
    if after:
        places = [place for place, item in enumerate(items) if item["id"] == after]
        if not places:
            raise NotFound("item", after)
        items = items[places[0] + 1 :]
    page = items[:limit]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return ItemList(data=page, first_id=first, last_id=last, has_more=len(items) > limit)


async def _current(services: Services, caller: Principal, response_id: str) -> StoredResponse:
    """The response, brought up to date with its run."""
    stored = await services.responses.get(caller.tenant_id, response_id)
    if stored.final:
        return stored
    run = await services.agents.get_run(stored.run_id)
    body = answers.of_run(stored.body, run)
    if body["status"] not in ("queued", "in_progress"):
        await services.responses.finish(caller.tenant_id, response_id, body)
    return StoredResponse(**{**{name: getattr(stored, name) for name in StoredResponse.__slots__}, "body": body})


def _json(body: JsonObject) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")
