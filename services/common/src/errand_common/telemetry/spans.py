"""Spans of OpenTelemetry's API, as this suite records them.

The SDK's spans ask a sampler, keep locks and limits for each of their lists and count themselves; a request of the
gateway would pay twice as much for them. Here every span is recorded (what to keep of it a collector decides, which
sees the whole trace), and attributes are a dictionary.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from random import getrandbits
from typing import Any, Final, Protocol

from opentelemetry import baggage, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.util._decorator import _agnosticcontextmanager
from opentelemetry.util.types import Attributes, AttributeValue

STORY_PARENT: Final = "errand.story.parent"
"""The baggage in which the id of the nearest GenAI span travels to the next process."""
MOST_ATTRIBUTES: Final = 128
MOST_EVENTS: Final = 128
_FLAGS: Final = trace.TraceFlags(trace.TraceFlags.SAMPLED | trace.TraceFlags.RANDOM_TRACE_ID)
_UNSET: Final = Status()

next_span_id: ContextVar[int] = ContextVar("next_span_id", default=0)
"""The id that the next span of this task has; 0 for a random one."""


class LocalSpan(trace.Span):
    """A span of this process, open until `end`; what is told to it afterwards is not kept."""

    def __init__(
        self,
        tracer: LocalTracer,
        name: str,
        context: SpanContext,
        parent: trace.Span,
        kind: SpanKind,
        start_time: int | None,
    ) -> None:
        self.tracer = tracer
        self.name = name
        self.context = context
        above = parent.get_span_context()
        self.parent = above if above.is_valid else None
        # The parent itself where it is of this process.
        self.above = parent if isinstance(parent, LocalSpan) else None
        # Of a span that another process is above of: the nearest GenAI span there, "" for none.
        self.story_parent = ""
        self.kind = kind
        self.attributes: dict[str, Any] = {}
        self.events: list[Event] = []
        self.links: Sequence[Link] = ()
        self.status = _UNSET
        self.start_time = start_time or time.time_ns()
        self.end_time: int | None = None

    def get_span_context(self) -> SpanContext:
        """Its ids."""
        return self.context

    def is_recording(self) -> bool:
        """Whether it has not ended."""
        return self.end_time is None

    def end(self, end_time: int | None = None) -> None:
        """Ends it once, and hands it to the provider's processors."""
        if self.end_time is None:
            self.end_time = end_time or time.time_ns()
            self.tracer.ended(self)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Keeps a value; None says nothing."""
        if self.end_time is not None or value is None:
            return
        if len(self.attributes) < MOST_ATTRIBUTES or key in self.attributes:
            self.attributes[key] = value

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Keeps several values."""
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """Keeps what happened; after 128 events no more."""
        if self.end_time is None and len(self.events) < MOST_EVENTS:
            self.events.append(Event(name, attributes, timestamp))

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Points to another trace."""
        if self.end_time is None:
            self.links = (*self.links, Link(context, attributes))

    def update_name(self, name: str) -> None:
        """Renames it."""
        if self.end_time is None:
            self.name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """As OpenTelemetry has it: OK is final, UNSET changes nothing."""
        told = status if isinstance(status, Status) else Status(status, description)
        final = self.status.status_code is StatusCode.OK or told.status_code is StatusCode.UNSET
        if self.end_time is None and not final:
            self.status = told

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Keeps an error as an event."""
        told: dict[str, AttributeValue] = {
            "exception.type": _full_name(type(exception)),
            "exception.message": str(exception),
            "exception.stacktrace": "".join(traceback.format_exception(exception)),
            "exception.escaped": str(escaped),
        }
        self.add_event("exception", told | dict(attributes or {}), timestamp)


def _full_name(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


class SpanProcessor(Protocol):
    """Takes the spans that end."""

    def on_end(self, span: LocalSpan) -> None:
        """Must neither wait nor raise."""

    def shutdown(self) -> None:
        """Sends what waits."""


class LocalTracer(trace.Tracer):
    """Makes the spans of one module."""

    def __init__(self, resource: Resource, scope: InstrumentationScope, ended: Callable[[LocalSpan], None]) -> None:
        self.resource = resource
        self.scope = scope
        self.ended = ended

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> LocalSpan:
        """A span below the one of the context, or the first of a trace."""
        parent = trace.get_current_span(context)
        trace_id = parent.get_span_context().trace_id or getrandbits(128)
        span = LocalSpan(self, name, SpanContext(trace_id, _span_id(), False, _FLAGS), parent, kind, start_time)
        if span.above is None:
            span.story_parent = str(baggage.get_baggage(STORY_PARENT, context) or "")
        if attributes:
            span.set_attributes(attributes)
        if links:
            span.links = tuple(links)
        return span

    @_agnosticcontextmanager
    def start_as_current_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Iterator[trace.Span]:
        """The span of the work inside the block."""
        span = self.start_span(name, context, kind, attributes, links, start_time)
        with trace.use_span(span, end_on_exit, record_exception, set_status_on_exception):
            yield span


class LocalTracerProvider(trace.TracerProvider):
    """Makes the tracers of a process, and hands its ended spans on."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._processors: tuple[SpanProcessor, ...] = ()

    def add_span_processor(self, processor: SpanProcessor) -> None:
        """From now on the processor gets the spans that end."""
        self._processors = (*self._processors, processor)

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> trace.Tracer:
        """A tracer for a module."""
        scope = InstrumentationScope(instrumenting_module_name, instrumenting_library_version, schema_url, attributes)
        return LocalTracer(self._resource, scope, self._ended)

    def shutdown(self) -> None:
        """Sends what waits."""
        for processor in self._processors:
            processor.shutdown()

    def _ended(self, span: LocalSpan) -> None:
        for processor in self._processors:
            processor.on_end(span)


def _span_id() -> int:
    if span_id := next_span_id.get():
        next_span_id.set(0)
        return span_id
    return getrandbits(64) or 1
