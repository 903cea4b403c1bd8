"""POST /v1/chat/completions, as OpenAI's clients call it."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

import orjson
from errand_common.principal import Principal
from fastapi import Depends, Request, Response
from sse_starlette import ServerSentEvent

from errand_gateway.domain.permissions import Permission, require
from errand_gateway.transport.access import Requires, openai_router
from errand_gateway.transport.context import context_of
from errand_gateway.transport.fields import IdempotencyKey
from errand_gateway.transport.openai.answers import (
    Completion,
    errand_extra,
    finish_of_run,
    finish_of_turn,
    note_turn,
    run_chunks,
    turn_chunks,
)
from errand_gateway.transport.openai.bodies import ChatCompletionRequest
from errand_gateway.transport.openai.requests import AGENT_PREFIX, generate_command, refuse_unsupported, run_command
from errand_gateway.transport.presence import until_gone
from errand_gateway.transport.services import Services, ServicesDep
from errand_gateway.transport.spending import DEFAULT_MAX_TOKENS, hold_for_model, hold_for_run
from errand_gateway.transport.sse import EVENT_SCHEMA, event_stream, started
from errand_gateway.transport.tracing import describe_chat

router = openai_router(prefix="/v1", tags=["openai"])

_EXAMPLE: Final = {
    "id": "chatcmpl-0190c0ffee",
    "object": "chat.completion",
    "created": 1763697600,
    "model": "agent:default",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "6 * 7 is 42.", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 180, "completion_tokens": 12, "total_tokens": 192},
}


@router.post(
    "/chat/completions",
    summary="Chat completion",
    responses={
        200: {
            "description": "The completion; with `stream` its chunks as server-sent events.",
            "content": {
                "application/json": {"schema": {"type": "object"}, "example": _EXAMPLE},
                "text/event-stream": {"schema": EVENT_SCHEMA, "example": "data: [DONE]\n\n"},
            },
        },
    },
    response_class=Response,
)
async def create_chat_completion(
    body: ChatCompletionRequest,
    request: Request,
    services: ServicesDep,
    caller: Annotated[Principal, Depends(Requires(Permission.MODELS_USE))],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """A completion by a served model, or by an agent when the model is `agent:NAME`."""
    refuse_unsupported(body)
    options = body.stream_options
    completion = Completion(body.model, include_usage=bool(options and options.include_usage))
    if body.model.startswith(AGENT_PREFIX):
        require(caller, Permission.RUNS_CREATE)
        await hold_for_run(request, services, caller, body.model.removeprefix(AGENT_PREFIX))
        return await _by_agent(body, request, services, completion, idempotency_key)
    most = body.max_completion_tokens or body.max_tokens or DEFAULT_MAX_TOKENS
    size = len(await request.body())
    await hold_for_model(request, services, caller, body.model, prompt_bytes=size, max_tokens=most)
    return await _by_model(body, request, services, completion)


async def _by_agent(
    body: ChatCompletionRequest,
    request: Request,
    services: Services,
    completion: Completion,
    idempotency_key: str | None,
) -> Response:
    command = run_command(body, idempotency_key)
    context = context_of(request.scope)
    context.agent, context.model = command.agent, body.model
    describe_chat(command.message, session=command.conversation_id, user=context.principal_id)
    if body.stream:
        chunks = run_chunks(services.agents.stream(command), completion, context)
        return await _streamed(request, services, chunks)
    run = await until_gone(request, services.agents.run(command))
    await services.background.note_or_follow(run, context)
    return _json(completion.whole(run.answer, (), finish_of_run(run), run.usage, **errand_extra(run)))


async def _by_model(
    body: ChatCompletionRequest, request: Request, services: Services, completion: Completion
) -> Response:
    command = generate_command(body)
    context = context_of(request.scope)
    context.model = command.model
    if body.stream:
        chunks = turn_chunks(services.models.stream(command), completion, context)
        return await _streamed(request, services, chunks)
    turn = await until_gone(request, services.models.generate(command))
    note_turn(turn, context)
    return _json(completion.whole(turn.text, turn.calls, finish_of_turn(turn), turn.usage))


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")


async def _streamed(request: Request, services: Services, chunks: AsyncIterator[dict[str, Any]]) -> Response:
    context = context_of(request.scope)
    context.streamed = True
    return event_stream(
        _events(await started(chunks)),
        request_id=context.request_id,
        path=request.url.path,
        heartbeat_seconds=services.heartbeat_seconds,
    )


async def _events(chunks: AsyncIterator[dict[str, Any]]) -> AsyncIterator[ServerSentEvent]:
    async for chunk in chunks:
        yield ServerSentEvent(data=orjson.dumps(chunk).decode(), sep="\n")
    yield ServerSentEvent(data="[DONE]", sep="\n")
