"""The outermost layer: request ids, body limits, security headers, and no fault left untold."""

import asyncio
import contextlib
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from errand_gateway.domain.health import ReadinessMonitor
from errand_gateway.transport.context import RequestContext, bind_context
from errand_gateway.transport.errors import ApiHttpError, error_response, internal_error
from errand_gateway.transport.tracing import describe_end, request_span

_log = structlog.get_logger(__name__)
_REQUEST_ID: Final = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
_TOO_LARGE: Final = 413
# How long a body may take to come: JSON, and what is uploaded.
_JSON_SECONDS = 60.0
_UPLOAD_SECONDS = 600.0
_LINGER_SECONDS: Final = 1.0
_LINGER_BYTES: Final = 32 * 1024 * 1024
_UPLOAD: Final = re.compile(r"^(/api/v1/collections/[^/]+/documents|/v1/files|/api/v1/tools/import)$")

SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
# Told over HTTPS alone: behind an ingress that ends TLS, saying so is the ingress's part.
_STRICT_TRANSPORT: Final = (b"strict-transport-security", b"max-age=31536000")
# A connection that is closed between two requests may lose the second, which is on its way.
_LAST_ANSWER: Final = (b"connection", b"close")
_RAW_SECURITY_HEADERS: Final = tuple(
    (name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()
)


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Bytes a body may have."""

    json_bytes: int
    upload_bytes: int

    def of(self, path: str) -> int:
        """The limit at this path; an upload's multipart frame has 64 KiB."""
        return self.upload_bytes + 65_536 if _UPLOAD.match(path) else self.json_bytes

    def seconds(self, path: str) -> float:
        """How long it may take to come."""
        return _UPLOAD_SECONDS if _UPLOAD.match(path) else _JSON_SECONDS


class EdgeMiddleware:
    """Wraps the whole app; `record` is called once for every request, before the last bytes of its answer.

    Who has an answer finds it written down, whatever happens to this process the moment after.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: BodyLimits,
        record: Callable[[Scope, RequestContext, int], None],
    ) -> None:
        self._app = app
        self._limits = limits
        self._record = record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        context = RequestContext(request_id=_request_id(headers))
        bind_context(scope, context)
        exchange = _Exchange(context, scope, receive, send, partial(self._write_down, scope, context))
        limit = self._limits.of(scope["path"])
        with (
            structlog.contextvars.bound_contextvars(request_id=context.request_id),
            request_span(scope, headers),
            context.until_the_end,
        ):
            try:
                if _declared_bytes(headers) > limit:
                    await _refuse(scope, receive, exchange, limit)
                else:
                    await self._answer(scope, _bounded(receive, limit, self._limits.seconds(scope["path"])), exchange)
            finally:
                exchange.end()

    async def _answer(self, scope: Scope, receive: Receive, exchange: "_Exchange") -> None:
        try:
            await self._app(scope, receive, exchange.send)
        except Exception:
            _log.exception("unhandled_error", path=scope["path"], method=scope["method"])
            if exchange.status:
                # The answer has begun: cutting it is the only honest end.
                raise
            answer = internal_error(exchange.context.request_id, scope["path"])
            await answer(scope, receive, exchange.send)

    def _write_down(self, scope: Scope, context: RequestContext, status: int) -> None:
        describe_end(scope, status)
        self._record(scope, context, status)


class _Exchange:
    """Sends the answer with the headers every answer has; `on_end` is told its status, once."""

    def __init__(
        self, context: RequestContext, scope: Scope, receive: Receive, send: Send, on_end: Callable[[int], None]
    ) -> None:
        self.context = context
        self._on_end = on_end
        self._has_ended = False
        self._is_secure = scope.get("scheme") == "https"
        self._readiness: ReadinessMonitor = scope["app"].state.services.readiness
        self.status = 0
        self._receive = receive
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": self._headers(message.get("headers", ()))}
        elif self.status == _TOO_LARGE and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await _linger(self._receive)
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.end()
        await self._send(message)

    def end(self) -> None:
        """Tells that the answer is whole, or that none comes any more."""
        if not self._has_ended:
            self._has_ended = True
            self._on_end(self.status)

    def _headers(self, given: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        headers = list(given)
        names = {name.lower() for name, _ in headers}
        headers += [header for header in _RAW_SECURITY_HEADERS if header[0] not in names]
        headers += [(name.lower().encode(), value.encode()) for name, value in self.context.headers.items()]
        headers.append((b"x-request-id", self.context.request_id.encode()))
        if self._is_secure:
            headers.append(_STRICT_TRANSPORT)
        if self._readiness.draining:
            headers.append(_LAST_ANSWER)
        return headers


async def _linger(receive: Receive) -> None:
    """Reads on for a moment after an answer that came before the body's end.

    A connection closed with bytes unread is reset, and the reset can destroy the answer on its way to
    a client that is still sending.
    """
    left = _LINGER_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.match(given) else f"req_{secrets.token_hex(12)}"


def _declared_bytes(headers: Headers) -> int:
    declared = headers.get("content-length", "0")
    return int(declared) if declared.isdecimal() else 0


def _too_large_text(limit: int) -> str:
    return f"the body is larger than the {limit} bytes allowed here"


async def _refuse(scope: Scope, receive: Receive, exchange: _Exchange, limit: int) -> None:
    answer = error_response(
        exchange.context.request_id,
        scope["path"],
        status=413,
        code="TOO_LARGE",
        message=_too_large_text(limit),
        details={"field": "body", "limit": str(limit)},
        headers={"Connection": "close"},
    )
    await answer(scope, receive, exchange.send)


def _bounded(receive: Receive, limit: int, seconds: float) -> Receive:
    seen, is_whole = 0, False
    ends = asyncio.get_running_loop().time() + seconds

    async def in_time() -> Message:
        try:
            async with asyncio.timeout_at(ends):
                return await receive()
        except TimeoutError as error:
            raise ApiHttpError(408, f"the body took longer than {seconds:g} seconds", {"field": "body"}) from error

    async def bounded() -> Message:
        nonlocal seen, is_whole
        message = await (receive() if is_whole else in_time())
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if seen > limit:
                raise ApiHttpError(413, _too_large_text(limit), {"field": "body", "limit": str(limit)})
        return message

    return bounded
