"""A fresh root span for each request; the caller's own trace is linked, never continued."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http import HTTPStatus

from errand_common.telemetry import genai, tracer
from errand_common.telemetry.bound import kept_span
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from starlette.datastructures import Headers
from starlette.types import Scope

from errand_gateway.transport.context import context_of

_TRACED = ("/api/", "/v1/")
_STATUS_CODE, _ROUTE, _ERROR = "http.response.status_code", "http.route", "error.type"
_tracer = tracer(__name__)
# Work inside a handler has spans of its own, so the current span may be another one.
_request_span: ContextVar[trace.Span] = ContextVar("request_span", default=trace.INVALID_SPAN)


@contextmanager
def request_span(scope: Scope, headers: Headers) -> Iterator[None]:
    """Traces an API request; probes and the documentation are not traced."""
    if not scope["path"].startswith(_TRACED):
        yield
        return
    name = f"{scope['method']} request"
    with kept_span(_tracer, name, Context(), kind=trace.SpanKind.SERVER, links=_links(headers)) as span:
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


def describe_failure(code: str) -> None:
    """A fault of ours, by its code; it may be told in a stream that began well."""
    span = _request_span.get()
    span.set_attribute(_ERROR, code)
    span.set_status(trace.StatusCode.ERROR, code)


def describe_end(scope: Scope, status: int) -> None:
    """Whose it was, what was asked and how it was answered; 0 when the client went away before."""
    span, context = _request_span.get(), context_of(scope)
    span.set_attribute("errand.request_id", context.request_id)
    if context.principal is not None:
        span.set_attribute(genai.TENANT_ID, context.principal.tenant_id)
    if (route := getattr(scope.get("route"), "path", None)) is not None:
        span.set_attribute(_ROUTE, route)
    if status:
        span.set_attribute(_STATUS_CODE, status)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        span.set_status(trace.StatusCode.ERROR, str(status))
