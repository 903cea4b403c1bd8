"""The story of a run: of all spans those that MLflow shows, joined to a tree of their own.

Between two GenAI spans stand spans of transport (a client's call, a server's handler). MLflow does not
get those, so each span notes its nearest GenAI ancestor, and across processes the note travels as W3C
baggage. A span sent to MLflow has that ancestor as its parent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import EllipsisType
from typing import Any, Final
from weakref import WeakValueDictionary

from opentelemetry import baggage, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from errand_common.principal import known_tenant
from errand_common.telemetry import genai

ANCESTOR: Final = "errand.story.parent"
_STORY_PREFIXES = ("gen_ai.", "mlflow.")
_open_spans: WeakValueDictionary[int, Span] = WeakValueDictionary()
_next_span_id: ContextVar[int] = ContextVar("next_span_id", default=0)
_next_trace_id: ContextVar[int] = ContextVar("next_trace_id", default=0)


def is_genai(span: ReadableSpan) -> bool:
    """Whether a span tells of a run, a model step, a tool or a retrieval."""
    return any(key.startswith(_STORY_PREFIXES) for key in (span.attributes or {}))


class AncestorNotes(SpanProcessor):
    """Notes on each span, when it starts, its nearest GenAI ancestor and, where it is known, its tenant."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if ancestor := nearest_story_span(parent_context):
            span.set_attribute(ANCESTOR, ancestor)
        if tenant := known_tenant():
            span.set_attribute(genai.TENANT_ID, tenant)
        _open_spans[span.get_span_context().span_id] = span


def nearest_story_span(context: Context | None = None) -> str:
    """Id (16 hex digits) of the nearest GenAI span at or above the current one; "" without one."""
    current: object = trace.get_current_span(context)
    if not isinstance(current, Span):
        return str(baggage.get_baggage(ANCESTOR, context) or "")
    # A span may become a GenAI span after its children began, so the note of a child is not enough.
    while not is_genai(current):
        above = _open_spans.get(current.parent.span_id) if current.parent else None
        if above is None:
            return str((current.attributes or {}).get(ANCESTOR, ""))
        current = above
    return f"{current.get_span_context().span_id:016x}"


def with_story(context: Context | None = None) -> Context:
    """The context with the note that travels to the next process."""
    if ancestor := nearest_story_span(context):
        return baggage.set_baggage(ANCESTOR, ancestor, context)
    return baggage.remove_baggage(ANCESTOR, context)


def story_span(span: ReadableSpan) -> ReadableSpan | None:
    """The span as MLflow gets it: below its nearest GenAI ancestor; None for a span of transport.

    The root tells whose the trace is, so that it is found when the tenant is erased.
    """
    if not is_genai(span):
        return None
    parent, attributes = _parent(span), span.attributes or {}
    if parent is None and (tenant := attributes.get(genai.TENANT_ID)):
        attributes = {**attributes, genai.MLFLOW_TENANT_TAG: tenant}
    return copied(span, parent=parent, attributes=attributes)


def copied(
    span: ReadableSpan,
    *,
    parent: trace.SpanContext | EllipsisType | None = ...,
    attributes: Mapping[str, Any] | None = None,
    events: Sequence[Event] | None = None,
    status: trace.Status | None = None,
) -> ReadableSpan:
    """The ended span with another parent, attributes, events or status."""
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent if parent is ... else parent,
        resource=span.resource,
        attributes=span.attributes if attributes is None else attributes,
        events=span.events if events is None else events,
        links=span.links,
        kind=span.kind,
        status=status or span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _parent(span: ReadableSpan) -> trace.SpanContext | None:
    ancestor = str((span.attributes or {}).get(ANCESTOR, ""))
    try:
        span_id = int(ancestor, 16)
    except ValueError:
        return None
    return trace.SpanContext(span.context.trace_id, span_id, is_remote=True) if span.context else None


class RepeatableIds(RandomIdGenerator):
    """Random ids, but for a span whose work may begin again in another process, or that is told of late."""

    def generate_trace_id(self) -> int:
        """The id that `begun_as` asked for; else a random one."""
        return _next_trace_id.get() or super().generate_trace_id()

    def generate_span_id(self) -> int:
        """The id that `repeatable` asked for, once; else a random one."""
        if span_id := _next_span_id.get():
            _next_span_id.set(0)
            return span_id
        return super().generate_span_id()


def repeatable_id(key: str) -> int:
    """The id of the span that is made in `repeatable(key)`."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") or 1


@contextmanager
def repeatable(key: str) -> Iterator[None]:
    """The next span of this task has an id made from `key`.

    Work that a crash interrupted begins again with the same id: spans below it that were sent before
    the crash find their parent, which only its end sends.
    """
    token = _next_span_id.set(repeatable_id(key))
    try:
        yield
    finally:
        _next_span_id.reset(token)


@contextmanager
def begun_as(context: trace.SpanContext) -> Iterator[None]:
    """The next span of this task, which begins a trace, has the ids of `context`."""
    trace_token, span_token = _next_trace_id.set(context.trace_id), _next_span_id.set(context.span_id)
    try:
        yield
    finally:
        _next_trace_id.reset(trace_token)
        _next_span_id.reset(span_token)
