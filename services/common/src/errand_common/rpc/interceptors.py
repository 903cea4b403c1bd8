"""What happens around every handler: who calls, is the request valid, how long, what went wrong."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import cache
from typing import Any, cast

import grpc
import protovalidate
import structlog
from google.protobuf.message import Message
from opentelemetry import trace

from errand_common.errors import (
    Cancelled,
    DeadlineExceeded,
    ErrandError,
    Internal,
    InvalidArgument,
    Unauthenticated,
)
from errand_common.principal import Principal, become
from errand_common.rpc.context import AUTHORIZATION, REQUEST_ID, enter_call
from errand_common.rpc.spans import FAULTS, end_span, enter_server_span
from errand_common.rpc.status import bounded, status_code, trailing_metadata
from errand_common.telemetry.metrics import RPC_DURATION, RPC_IN_FLIGHT, RPC_REQUESTS, exemplar, from_zero
from errand_common.tokens import TokenVerifier

# A call without a deadline of its own would hold its slot for ever.
DEFAULT_DEADLINE_SECONDS = 300.0
_OPEN_SERVICES = ("/grpc.health.v1.Health/", "/grpc.reflection.")
_SERVER_FAULT = 500
_REQUEST_ID_FORM = re.compile(r"[\w.:-]{1,128}")
_log = structlog.get_logger(__name__)
_validator = protovalidate.Validator()


def validate(message: Message) -> None:
    """Raises InvalidArgument that names the first field that breaks a rule of its proto."""
    violations = _validator.collect_violations(message, fail_fast=True)
    if not violations:
        return
    violation = violations[0].proto
    names = [_element(element) for element in (violation.field.elements if violation.field else ())]
    path = ".".join(
        name for index, name in enumerate(names) if not (index == 0 and name == "request" and len(names) > 1)
    )
    field = path or message.DESCRIPTOR.name
    raise InvalidArgument(
        f"{field}: {violation.message or violation.rule_id}",
        field=field,
        rule=violation.rule_id or "",
    )


def _element(element: Any) -> str:
    index = getattr(element, "index", None)
    return f"{element.field_name}[{index}]" if isinstance(index, int) else str(element.field_name)


class ServiceInterceptor(grpc.aio.ServerInterceptor):
    """Authentication (default deny), validation, deadlines, metrics, logs, traces and errors."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the handler of every method but health and reflection."""
        handler = await continuation(details)
        if handler is None or details.method.startswith(_OPEN_SERVICES):
            return handler
        return self._wrapped(handler, details.method)

    def _wrapped(self, handler: Any, method: str) -> Any:
        options = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.response_streaming:
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
            return make(self._streaming(inner, method), **options)
        make = (
            grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
        )
        inner = handler.stream_unary if handler.request_streaming else handler.unary_unary
        return make(self._unary(inner, method), **options)

    def _unary(self, inner: Callable[..., Awaitable[Any]], method: str) -> Callable[..., Awaitable[Any]]:
        async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            call = _Call(method, context)
            try:
                call.enter(*await self._authenticate(context))
                async with asyncio.timeout_at(call.ends_at):
                    return await inner(_checked(request), context)
            except BaseException as error:
                await call.fail(error)
                raise
            finally:
                call.close()

        return handle

    def _streaming(self, inner: Callable[..., AsyncGenerator[Any]], method: str) -> Callable[..., AsyncIterator[Any]]:
        async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            call = _Call(method, context)
            try:
                call.enter(*await self._authenticate(context))
                async with aclosing(inner(_checked(request), context)) as responses:
                    async for response in _until(responses, call):
                        yield response
            except BaseException as error:
                await call.fail(error)
                raise
            finally:
                call.close()

        return handle

    async def _authenticate(self, context: grpc.aio.ServicerContext[Any, Any]) -> tuple[Principal, str]:
        metadata = dict(context.invocation_metadata() or ())
        scheme, _, token = str(metadata.get(AUTHORIZATION, "")).partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("Send an internal token as `authorization: Bearer …` metadata.")
        return await self._verifier.verify(token), token


def _checked(request: Any) -> Any:
    """A request whose messages are validated as they are read."""
    if isinstance(request, Message):
        validate(request)
        return request

    async def messages() -> AsyncIterator[Message]:
        async for message in request:
            validate(message)
            yield message

    return messages()


async def _until(responses: AsyncIterator[Any], call: _Call) -> AsyncIterator[Any]:
    """The responses, as long as the call's own time lasts; time the client takes to read counts too."""
    while True:
        try:
            async with asyncio.timeout_at(call.ends_at):
                response = await anext(responses)
        except StopAsyncIteration:
            return
        yield response


class _Call:
    """One call's context, figures and end."""

    def __init__(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._method = method.lstrip("/")
        self._context = context
        self._metadata = {str(key): value for key, value in (context.invocation_metadata() or ())}
        self._request_id = _given_id(self._metadata)
        self._began = time.monotonic()
        self._code = grpc.StatusCode.OK
        self._span: trace.Span = trace.INVALID_SPAN
        self.ends_at: float | None = None
        _show_faults(self._method)
        RPC_IN_FLIGHT.labels(self._method).inc()

    def enter(self, principal: Principal, token: str) -> None:
        """Sets principal, token, deadline, log context and trace for the rest of this call's task."""
        self._request_id = principal.request_id or self._request_id
        become(replace(principal, request_id=self._request_id))
        enter_call(token, seconds=self._allowed_seconds())
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=self._request_id, tenant_id=principal.tenant_id)
        identity = {"errand.request_id": self._request_id, "errand.tenant_id": principal.tenant_id}
        self._span = enter_server_span(self._method, self._metadata, identity)

    def _allowed_seconds(self) -> float:
        # Typed as float, but None when the client set no deadline.
        remaining = cast("float | None", self._context.time_remaining())
        if remaining is not None:
            return remaining  # gRPC itself cancels the handler then
        self.ends_at = asyncio.get_running_loop().time() + DEFAULT_DEADLINE_SECONDS
        return DEFAULT_DEADLINE_SECONDS

    async def fail(self, error: BaseException) -> None:
        """Ends the call with the error's status; returns when the call was ended already."""
        if isinstance(error, grpc.aio.AbortError):
            self._code = grpc.StatusCode.UNKNOWN
        elif isinstance(error, GeneratorExit) or (isinstance(error, asyncio.CancelledError) and _is_cancelled()):
            over = self._context.time_remaining() == 0
            self._code = grpc.StatusCode.DEADLINE_EXCEEDED if over else grpc.StatusCode.CANCELLED
        else:
            known = self._told(error)
            self._code = status_code(known)
            await self._context.abort(self._code, bounded(known.message), trailing_metadata(known))

    def _told(self, error: BaseException) -> ErrandError:
        if isinstance(error, ErrandError):
            log = _log.warning if error.status.http >= _SERVER_FAULT else _log.info
            log("call refused", method=self._method, reason=error.reason.value, message=error.message)
            return error
        if isinstance(error, TimeoutError):
            _log.warning("call took too long", method=self._method, exc_info=error)
            return DeadlineExceeded("The call took longer than it may.")
        if isinstance(error, asyncio.CancelledError):
            return Cancelled("The work behind this call was cancelled.")
        _log.error("unexpected error", method=self._method, request_id=self._request_id, exc_info=error)
        internal = Internal(
            f"An internal error occurred; the service's log has it under request id {self._request_id}."
        )
        internal.metadata["request_id"] = self._request_id
        return internal

    def close(self) -> None:
        """Counts the call."""
        seconds = time.monotonic() - self._began
        end_span(self._span, self._code)
        RPC_IN_FLIGHT.labels(self._method).dec()
        RPC_REQUESTS.labels(self._method, self._code.name).inc()
        RPC_DURATION.labels(self._method).observe(seconds, exemplar(self._span))
        _log.debug("call served", method=self._method, code=self._code.name, seconds=round(seconds, 4))


@cache
def _show_faults(method: str) -> None:
    """The first fault of a method counts against its objective, as it was seen to be called before."""
    from_zero(RPC_REQUESTS, [method], [code.name for code in FAULTS])


def _is_cancelled() -> bool:
    """Whether gRPC cancelled this call; else the handler awaited other work that was cancelled."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _given_id(metadata: Mapping[str, Any]) -> str:
    given = str(metadata.get(REQUEST_ID, ""))
    return given if _REQUEST_ID_FORM.fullmatch(given) else f"req_{uuid.uuid4().hex}"
