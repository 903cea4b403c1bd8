"""A run's events as server-sent events."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from sse_starlette import ServerSentEvent

from errand_gateway.domain.resources import (
    Approval,
    Run,
    RunEvent,
    RunStarted,
    Step,
    StopReason,
    TextDelta,
    ToolProgress,
)
from errand_gateway.transport.context import RequestContext
from errand_gateway.transport.sse import event
from errand_gateway.transport.tracing import describe_answer, describe_failure

ENDED: Final = "ended"
_FAILED: Final = frozenset(
    {StopReason.INTERNAL, StopReason.UNAVAILABLE, StopReason.ERROR_THRESHOLD, StopReason.INCOMPATIBLE}
)
_NAMES: Final[dict[type[Any], str]] = {
    RunStarted: "started",
    Step: "step",
    TextDelta: "delta",
    ToolProgress: "tool_progress",
    Approval: "approval",
    Run: ENDED,
}


async def run_events(events: AsyncIterator[RunEvent], context: RequestContext) -> AsyncIterator[ServerSentEvent]:
    """Numbered events; the id is the event's sequence, so a reader can go on where it stopped."""
    async with aclosing(events) as open_events:  # type: ignore[type-var]
        async for item in open_events:
            note_event(item, context)
            yield event(_NAMES[type(item.body)], _data(item), number=item.sequence)


def note_event(item: RunEvent, context: RequestContext) -> None:
    """Keeps what the usage row of the request needs."""
    if isinstance(item.body, RunStarted):
        context.run_id, context.agent = item.body.run_id, item.body.agent
    elif isinstance(item.body, TextDelta):
        context.deltas += 1
    elif isinstance(item.body, Run):
        note_run(item.body, context)


def note_run(run: Run, context: RequestContext) -> None:
    """Keeps what the usage row of the request needs."""
    context.run_id, context.agent = run.id, run.agent
    context.prompt_tokens = run.usage.prompt_tokens
    context.completion_tokens = run.usage.completion_tokens
    context.cached_tokens = run.usage.cached_tokens
    context.stop_reason = run.stop_reason.value if run.stop_reason else ""
    if run.stop_reason in _FAILED:
        describe_failure(run.stop_reason.name)
    if run.answer:
        describe_answer(run.answer, session=run.conversation_id)


def _data(item: RunEvent) -> Any:
    # A run that ended is told in the words of the chat answer.
    return chat_answer(item.body) if isinstance(item.body, Run) else item.body


def chat_answer(run: Run) -> dict[str, Any]:
    """The chat answer of a run."""
    return {
        "answer": run.answer,
        "steps": run.steps,
        "citations": run.citations,
        "run_id": run.id,
        "conversation_id": run.conversation_id,
        "stop_reason": run.stop_reason,
        "usage": run.usage,
    }
