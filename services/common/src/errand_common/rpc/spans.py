"""A span at each end of a call. MLflow does not get them; see `telemetry.story`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import grpc
from opentelemetry import trace

from errand_common.telemetry.bound import is_counted, start_kept_span
from errand_common.telemetry.tracing import enter_span, received_trace, tracer

_STATUS_CODE: Final = "rpc.grpc.status_code"
FAULTS: Final = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
"""Codes by which a service says that it failed; all others tell of the caller, or of a limit."""
_tracer = tracer(__name__)


def enter_server_span(method: str, metadata: Mapping[str, str | bytes], attributes: Mapping[str, str]) -> trace.Span:
    """Starts the span of a call that is served, current for the rest of this task."""
    received = received_trace({key: value for key, value in metadata.items() if isinstance(value, str)})
    above = trace.get_current_span(received)
    if is_counted(above):
        span = above
    else:
        told = {"rpc.system": "grpc", **attributes}
        span = start_kept_span(_tracer, method, received, kind=trace.SpanKind.SERVER, attributes=told)
    enter_span(span, received)
    return span


def end_span(span: trace.Span, code: grpc.StatusCode) -> None:
    """Ends it with the status of its call."""
    # Of a call whose trace is beyond the bound, what the caller did wrong is not worth telling.
    if span.is_recording() or code in FAULTS:
        span.set_attribute(_STATUS_CODE, code.value[0])
        if code is not grpc.StatusCode.OK:
            span.set_status(trace.StatusCode.ERROR, code.name)
    span.end()


async def traced_call(begin: Callable[[trace.Span], Any], method: str | bytes) -> Any:
    """The call that `begin` starts inside a client span; the span ends with the call."""
    # Typed as text, but grpc.aio gives bytes.
    name = method.decode() if isinstance(method, bytes) else method
    above = trace.get_current_span()
    if is_counted(above):
        return await begin(above)
    told = {"rpc.system": "grpc"}
    span = start_kept_span(_tracer, name.lstrip("/"), kind=trace.SpanKind.CLIENT, attributes=told)
    try:
        call = await begin(span)
    except BaseException:
        end_span(span, grpc.StatusCode.UNKNOWN)
        raise
    if span.is_recording() or is_counted(span):
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
