"""A span at each end of a call. MLflow does not get them; see `telemetry.story`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import grpc
from opentelemetry import trace

from errand_common.telemetry.tracing import enter_span, received_trace, tracer

_STATUS_CODE: Final = "rpc.grpc.status_code"
_tracer = tracer(__name__)


def enter_server_span(method: str, metadata: Mapping[str, str | bytes], attributes: Mapping[str, str]) -> trace.Span:
    """Starts the span of a call that is served, current for the rest of this task."""
    received = received_trace({key: value for key, value in metadata.items() if isinstance(value, str)})
    span = _tracer.start_span(method, received, trace.SpanKind.SERVER, {"rpc.system": "grpc", **attributes})
    enter_span(span, received)
    return span


def end_span(span: trace.Span, code: grpc.StatusCode) -> None:
    """Ends it with the status of its call."""
    if span.is_recording():
        span.set_attribute(_STATUS_CODE, code.value[0])
        if code is not grpc.StatusCode.OK:
            span.set_status(trace.StatusCode.ERROR, code.name)
    span.end()


async def traced_call(begin: Callable[[trace.Span], Any], method: str | bytes) -> Any:
    """The call that `begin` starts inside a client span; the span ends with the call."""
    # Typed as text, but grpc.aio gives bytes.
    name = method.decode() if isinstance(method, bytes) else method
    span = _tracer.start_span(name.lstrip("/"), kind=trace.SpanKind.CLIENT, attributes={"rpc.system": "grpc"})
    try:
        call = await begin(span)
    except BaseException:
        end_span(span, grpc.StatusCode.UNKNOWN)
        raise
    if span.is_recording():
        call.add_done_callback(lambda _: end_span(span, _code(call)))
    return call


def _code(call: Any) -> grpc.StatusCode:
    """How a call ended that has ended.

    It tells so in a coroutine, which then has nothing to wait for: a task for it would cost as much as the span.
    """
    asking = call.code()
    try:
        asking.send(None)
    except StopIteration as told:
        code: grpc.StatusCode = told.value
        return code
    finally:
        asking.close()
    return grpc.StatusCode.UNKNOWN
