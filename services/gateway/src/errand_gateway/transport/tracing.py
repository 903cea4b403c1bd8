"""A fresh root span for each request; the caller's own trace is linked, never continued."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http import HTTPStatus

from errand_common.telemetry import genai, tracer
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from starlette.datastructures import Headers
from starlette.types import Scope

_TRACED = ("/api/", "/v1/")
_STATUS_CODE, _ROUTE = "http.response.status_code", "http.route"
_tracer = tracer(__name__)
# Work inside a handler has spans of its own, so the current span may be another one.
_request_span: ContextVar[trace.Span] = ContextVar("request_span", default=trace.INVALID_SPAN)


@contextmanager
def request_span(scope: Scope, headers: Headers) -> Iterator[None]:
    """Traces an API request; probes and the documentation are not traced."""
    if not scope["path"].startswith(_TRACED):
        yield
        return
    with _tracer.start_as_current_span(
        f"{scope['method']} request", context=Context(), links=_links(headers), kind=trace.SpanKind.SERVER
    ) as span:
        token = _request_span.set(span)
        try:
            yield
        finally:
            _request_span.reset(token)


def _links(headers: Headers) -> list[trace.Link]:
    given = headers.get("traceparent")
    if given is None:
        return []
    # A parent taken from outside would leave the trace without a root in our store.
    remote = trace.get_current_span(propagate.extract({"traceparent": given}, context=Context())).get_span_context()
    return [trace.Link(remote)] if remote.is_valid else []


def describe_chat(message: str, *, session: str, user: str) -> None:
    """What the trace's preview shows as input, and whose it is."""
    span = _request_span.get()
    span.update_name("chat request")
    span.set_attribute(genai.MLFLOW_INPUTS, genai.as_attribute({"message": message}))
    span.set_attribute(genai.USER_ID, user)
    if session:
        span.set_attribute(genai.SESSION_ID, session)


def describe_answer(answer: str, *, session: str) -> None:
    """What the trace's preview shows as output."""
    span = _request_span.get()
    span.set_attribute(genai.MLFLOW_OUTPUTS, genai.as_attribute({"answer": answer}))
    if session:
        span.set_attribute(genai.SESSION_ID, session)


def describe_end(scope: Scope, status: int) -> None:
    """What was asked and how it was answered; 0 when the client went away before."""
    span = _request_span.get()
    if (route := getattr(scope.get("route"), "path", None)) is not None:
        span.set_attribute(_ROUTE, route)
    if status:
        span.set_attribute(_STATUS_CODE, status)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        span.set_status(trace.StatusCode.ERROR, str(status))
