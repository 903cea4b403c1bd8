"""Server-sent events: numbered, kept alive, ended by the client's going."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final, TypeVar

import orjson
import structlog
from errand_common.errors import ErrandError, Internal
from sse_starlette import EventSourceResponse, ServerSentEvent

from errand_gateway.transport.errors import late_error

T = TypeVar("T")

_log = structlog.get_logger(__name__)
# A stream that fails at once is answered with the failure's own status; one that has said nothing by
# then is begun, so that heartbeats keep it open.
_FIRST_EVENT_SECONDS: Final = 2.0


EVENT_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "The event's number."},
        "event": {"type": "string"},
        "data": {"type": "string", "description": "JSON."},
    },
    "required": ["data"],
}
"""One event, for the API's description."""


def event(name: str, data: Any, *, number: int | None = None) -> ServerSentEvent:
    """One event with JSON data."""
    return ServerSentEvent(
        data=orjson.dumps(data).decode(),
        event=name,
        id=str(number) if number is not None else None,
        sep="\n",
    )


async def started(items: AsyncIterator[T]) -> AsyncIterator[T]:
    """The same items, once the first is there or has taken two seconds; raises what it raises."""
    first = asyncio.ensure_future(_next(items))
    try:
        await asyncio.wait({first}, timeout=_FIRST_EVENT_SECONDS)
        if first.done():
            first.result()
    except BaseException:
        first.cancel()
        raise
    return _continued(first, items)


async def _next(items: AsyncIterator[T]) -> list[T]:
    async for item in items:
        return [item]
    return []


async def _continued(first: asyncio.Future[list[T]], items: AsyncIterator[T]) -> AsyncIterator[T]:
    try:
        for item in await first:
            yield item
            async with aclosing(items) as rest:  # type: ignore[type-var]
                async for following in rest:
                    yield following
    finally:
        first.cancel()


def event_stream(
    events: AsyncIterator[ServerSentEvent], *, request_id: str, path: str, heartbeat_seconds: float
) -> EventSourceResponse:
    """An answer that streams the events; an error on the way becomes the last one, `error`."""
    return EventSourceResponse(
        _told(events, request_id, path),
        ping=heartbeat_seconds,
        ping_message_factory=lambda: ServerSentEvent(comment="heartbeat", sep="\n"),
        headers={"X-Accel-Buffering": "no"},
    )


async def _told(events: AsyncIterator[ServerSentEvent], request_id: str, path: str) -> AsyncIterator[ServerSentEvent]:
    try:
        async with aclosing(events) as open_events:  # type: ignore[type-var]
            async for item in open_events:
                yield item
    except ErrandError as error:
        yield event("error", late_error(request_id, path, error))
    except Exception:
        _log.exception("stream_failed")
        yield event("error", late_error(request_id, path, Internal("something went wrong on our side")))
