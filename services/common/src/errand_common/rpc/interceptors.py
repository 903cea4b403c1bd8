"""What happens around every handler: who calls, is the request valid, how long, what went wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
import protovalidate
import structlog
from google.protobuf.message import Message
from opentelemetry import propagate, trace

from errand_common.errors import Cancelled, ErrandError, Internal, InvalidArgument, Unauthenticated
from errand_common.principal import Principal, acting_as
from errand_common.rpc.context import AUTHORIZATION, REQUEST_ID, carrying_token, ending_within
from errand_common.rpc.status import status_code, trailing_metadata
from errand_common.telemetry.metrics import RPC_DURATION, RPC_IN_FLIGHT, RPC_REQUESTS
from errand_common.tokens import TokenVerifier

# A call without a deadline of its own would hold its slot for ever.
DEFAULT_DEADLINE_SECONDS = 300.0
_OPEN_SERVICES = ("/grpc.health.v1.Health/", "/grpc.reflection.")
_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)
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
                with call.entered(await self._authenticate(context)):
                    return await inner(_checked(request), context)
            except BaseException as error:
                await call.fail(error)
                raise
            finally:
                call.close()

        return handle

    def _streaming(self, inner: Callable[..., AsyncIterator[Any]], method: str) -> Callable[..., AsyncIterator[Any]]:
        async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            call = _Call(method, context)
            try:
                with call.entered(await self._authenticate(context)):
                    async for response in inner(_checked(request), context):
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


class _Call:
    """One call's context, figures and end."""

    def __init__(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._method = method.lstrip("/")
        self._context = context
        self._began = time.monotonic()
        self._code = grpc.StatusCode.OK
        RPC_IN_FLIGHT.labels(self._method).inc()

    @contextmanager
    def entered(self, identity: tuple[Principal, str]) -> Iterator[None]:
        """Sets principal, token, deadline, log context and span for the handler."""
        principal, token = identity
        metadata = {str(key): value for key, value in (self._context.invocation_metadata() or ())}
        request_id = principal.request_id or str(metadata.get(REQUEST_ID, ""))
        remaining = self._context.time_remaining()
        with ExitStack() as stack:
            stack.enter_context(acting_as(principal))
            stack.enter_context(carrying_token(token))
            stack.enter_context(ending_within(DEFAULT_DEADLINE_SECONDS if remaining is None else remaining))
            stack.enter_context(
                structlog.contextvars.bound_contextvars(request_id=request_id, tenant_id=principal.tenant_id)
            )
            stack.enter_context(
                _tracer.start_as_current_span(
                    self._method, context=propagate.extract(metadata), kind=trace.SpanKind.SERVER
                )
            )
            yield

    async def fail(self, error: BaseException) -> None:
        """Ends the call with the error's status; raises on what is not an error of the call."""
        if isinstance(error, GeneratorExit | grpc.aio.AbortError):
            return
        if isinstance(error, asyncio.CancelledError):
            self._code = grpc.StatusCode.CANCELLED
            return
        known = error if isinstance(error, ErrandError) else self._unexpected(error)
        self._code = status_code(known)
        await self._context.abort(self._code, known.message, trailing_metadata(known))

    def _unexpected(self, error: BaseException) -> ErrandError:
        if isinstance(error, TimeoutError):
            return Cancelled("The call took longer than it may.")
        _log.error("unexpected error", method=self._method, exc_info=error)
        return Internal("An internal error occurred; the service's log has it under the request id.")

    def close(self) -> None:
        """Counts the call."""
        RPC_IN_FLIGHT.labels(self._method).dec()
        RPC_REQUESTS.labels(self._method, self._code.name).inc()
        RPC_DURATION.labels(self._method).observe(time.monotonic() - self._began)
