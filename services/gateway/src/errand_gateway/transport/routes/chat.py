"""POST /api/v1/chat: a message in, an answer with its steps out, whole or as a stream."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from errand_common.principal import Principal
from fastapi import Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import Citation, RunCommand, Step, StopReason, Usage, WhenBusy
from errand_gateway.transport.access import (
    BODY_RESPONSES,
    CONFLICT,
    NOT_FOUND,
    Requires,
    guarded_router,
)
from errand_gateway.transport.context import context_of
from errand_gateway.transport.fields import ID_PATTERN, Body, IdempotencyKey, SpokenText
from errand_gateway.transport.presence import until_gone, wants_stream
from errand_gateway.transport.run_events import chat_answer, run_events
from errand_gateway.transport.services import ServicesDep
from errand_gateway.transport.spending import hold_for_run
from errand_gateway.transport.sse import EVENT_SCHEMA, event_stream, started
from errand_gateway.transport.tracing import describe_chat

router = guarded_router(prefix="/api/v1", tags=["chat"])


class ChatRequest(Body):
    """A message for an agent."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"message": "What is 17% of 2,350?", "agent": "default"}]}
    )

    message: Annotated[
        SpokenText,
        Field(min_length=1, max_length=32_768, description="What the user says, in characters."),
    ]
    agent: Annotated[
        str,
        Field(max_length=64, pattern=ID_PATTERN, description="Name; left out, the default one."),
    ] = ""
    conversation_id: Annotated[
        str,
        Field(max_length=64, pattern=ID_PATTERN, description="Left out, a new conversation begins."),
    ] = ""

    when_busy: Annotated[
        WhenBusy, Field(description="While another message of the conversation is being answered; 8 may wait.")
    ] = WhenBusy.REFUSE

    def command(self, idempotency_key: str | None) -> RunCommand:
        """What the agent service is asked."""
        return RunCommand(
            self.message, self.agent, self.conversation_id, idempotency_key or "", when_busy=self.when_busy
        )


class ChatResponse(BaseModel):
    """The answer and how it came about."""

    answer: str
    steps: Sequence[Step]
    citations: Sequence[Citation]
    run_id: str
    conversation_id: str
    stop_reason: StopReason | None
    usage: Usage


_EXAMPLE: Final = {
    "answer": "17% of 2,350 is 399.5.",
    "steps": [
        {
            "index": 1,
            "kind": "act",
            "summary": "calculator(expression='2350 * 0.17')",
            "tool_name": "calculator",
            "arguments": {"expression": "2350 * 0.17"},
            "result": 399.5,
            "duration_ms": 3.1,
            "usage": {"prompt_tokens": 0, "completion_tokens": 0, "cached_tokens": 0},
        }
    ],
    "citations": [],
    "run_id": "run_0190c0ffee",
    "conversation_id": "conv_0190c0ffee",
    "stop_reason": "answer",
    "usage": {"prompt_tokens": 212, "completion_tokens": 31, "cached_tokens": 180},
}
_STREAM_EXAMPLE: Final = (
    'id: 1\nevent: started\ndata: {"run_id":"run_01","conversation_id":"conv_01","agent":"default"}'
    '\n\nid: 2\nevent: delta\ndata: {"text":"17% of"}\n\n'
    'id: 3\nevent: ended\ndata: {"answer":"17% of 2,350 is 399.5.","run_id":"run_01"}\n\n'
)


@router.post(
    "/chat",
    summary="Ask an agent",
    response_model=ChatResponse,
    responses={
        200: {
            "description": "The answer; with `Accept: text/event-stream` the run's events "
            "(`started`, `step`, `delta`, `tool_progress`, `ended`, `error`), their ids the event numbers.",
            "content": {
                "application/json": {"example": _EXAMPLE},
                "text/event-stream": {"schema": EVENT_SCHEMA, "example": _STREAM_EXAMPLE},
            },
        },
        **BODY_RESPONSES,
        **NOT_FOUND,
        **CONFLICT,
    },
)
async def chat(
    body: ChatRequest,
    request: Request,
    services: ServicesDep,
    caller: Annotated[Principal, Depends(Requires(Permission.RUNS_CREATE))],
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Runs an agent on one message; a client that goes away cancels the run."""
    context = context_of(request.scope)
    command = body.command(idempotency_key)
    context.agent = command.agent
    describe_chat(command.message, session=command.conversation_id, user=caller.id)
    await hold_for_run(request, services, caller, command.agent)
    if wants_stream(request):
        return await _streamed(request, services, command)
    run = await until_gone(request, services.agents.run(command))
    await services.background.note_or_follow(run, context)
    return chat_answer(run)


async def _streamed(request: Request, services: ServicesDep, command: RunCommand) -> Response:
    context = context_of(request.scope)
    context.streamed = True
    return event_stream(
        run_events(await started(services.agents.stream(command)), context),
        request_id=context.request_id,
        path=request.url.path,
        heartbeat_seconds=services.heartbeat_seconds,
    )
