"""Server-sent events: numbered, kept alive, ended by the client's going."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import structlog
from errand_common.errors import ErrandError
from sse_starlette import EventSourceResponse, ServerSentEvent

from errand_gateway.transport.errors import errand_error_parts

_log = structlog.get_logger(__name__)


def event(name: str | None, data: Any, *, number: int | None = None) -> ServerSentEvent:
    """One event with JSON data."""
    return ServerSentEvent(
        data=orjson.dumps(data).decode(),
        event=name,
        id=str(number) if number is not None else None,
        sep="\n",
    )


def event_stream(
    events: AsyncIterator[ServerSentEvent], *, request_id: str, heartbeat_seconds: float
) -> EventSourceResponse:
    """An answer that streams the events; an error on the way becomes the last one, `error`."""
    return EventSourceResponse(
        _told(events, request_id),
        ping=heartbeat_seconds,
        ping_message_factory=lambda: ServerSentEvent(comment="heartbeat", sep="\n"),
        headers={"X-Accel-Buffering": "no"},
    )


async def _told(events: AsyncIterator[ServerSentEvent], request_id: str) -> AsyncIterator[ServerSentEvent]:
    try:
        async for item in events:
            yield item
    except ErrandError as error:
        _, code, details, _ = errand_error_parts(error)
        yield _error_event(code, error.message, details, request_id)
    except Exception:
        _log.exception("stream_failed")
        yield _error_event("INTERNAL", "something went wrong on our side", {}, request_id)


def _error_event(code: str, message: str, details: dict[str, Any], request_id: str) -> ServerSentEvent:
    body = {"code": code, "message": message, "details": details, "request_id": request_id}
    return event("error", body)
