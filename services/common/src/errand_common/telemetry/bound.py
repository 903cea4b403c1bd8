"""How many traces a process tells of, and what is told of the others."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final, TypedDict, Unpack

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode

from errand_common.errors import ErrandError
from errand_common.telemetry.metrics import BoundedLabel, counter
from errand_common.telemetry.story import begun_as

_TRACES = counter(
    "telemetry_traces_total", "Traces that began here, by how they are told: whole, or counted beyond the bound", "told"
)
_LATE = counter(
    "telemetry_traces_told_late_total",
    "Requests and runs of counted traces that were told of at their end, by reason (error, slow)",
    "reason",
)
_WHOLE, _COUNTED = _TRACES.labels("whole"), _TRACES.labels("counted")
_BY_REASON = {reason: _LATE.labels(reason) for reason in ("error", "slow")}
# So many seconds' worth of traces may begin at once.
BURST_SECONDS: Final = 3.0
_MOST_KINDS: Final = 16
_MUST_BE_TOLD: Final = otel_context.create_key("errand-must-be-told")
_NOT_TOLD: Final = SamplingResult(Decision.DROP)


class TraceBound(Sampler):
    """Lets `per_second` traces of each kind begin, and `BURST_SECONDS` as many at once; their spans follow.

    A kind is the name of a trace's first span, so that no flood of one hides another; the first 16 have a bound of
    their own, all further ones share one. A request whose caller's trace is sampled competes with its like alone.
    """

    def __init__(self, per_second: float, slow_seconds: float) -> None:
        self.per_second, self.slow_seconds = per_second, slow_seconds
        self._kinds = BoundedLabel(_MOST_KINDS)
        # By kind: how many may begin, and since when. Two threads at once let one more pass, which is no harm.
        self._left: dict[tuple[str, bool], tuple[float, float]] = {}

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[Link] | None = None,
        trace_state: trace.TraceState | None = None,
    ) -> SamplingResult:
        """Decided where a trace begins; spans below follow it, in other processes too."""
        above = trace.get_current_span(parent_context).get_span_context()
        if above.is_valid:
            is_told = bool(above.trace_flags.sampled)
        elif parent_context is not None and _MUST_BE_TOLD in parent_context:
            is_told = True
        else:
            is_told = self._may_begin(name, any(link.context.trace_flags.sampled for link in links or ()))
        return ALWAYS_ON.should_sample(parent_context, trace_id, name, kind, attributes) if is_told else _NOT_TOLD

    def get_description(self) -> str:
        """As OpenTelemetry names samplers."""
        return f"TraceBound{{{self.per_second:g}/s}}"

    def _may_begin(self, name: str, is_asked_for: bool) -> bool:
        key, now = (self._kinds.of(name), is_asked_for), time.monotonic()
        most = max(self.per_second * BURST_SECONDS, 1.0) if self.per_second else 0.0
        left, since = self._left.get(key, (most, now))
        left = min(most, left + (now - since) * self.per_second)
        may_begin = left >= 1
        self._left[key] = (left - may_begin, now)
        (_WHOLE if may_begin else _COUNTED).inc()
        return may_begin


class SpanOptions(TypedDict, total=False):
    """What a span may begin with; by default it is internal and has neither attributes nor links."""

    kind: SpanKind
    attributes: Mapping[str, Any]
    links: Sequence[Link]


class LateSpan(trace.NonRecordingSpan):
    """Stands for a span of a trace that is not told; one that ends with an error or late is told after all.

    It keeps the id of its trace, which logs have. One below another span begins a trace of its own, linked to that
    one's: of the others nobody would hear, and it would be an orphan.
    """

    def __init__(
        self, context: SpanContext, above: SpanContext, tracer: trace.Tracer, name: str, options: SpanOptions
    ) -> None:
        super().__init__(context)
        self._above, self._tracer, self._name, self._options = above, tracer, name, options
        self._attributes: dict[str, Any] = dict(options.get("attributes", {}))
        self._status: Status | None = None
        self._error: BaseException | None = None
        self._began, self._is_over = time.time_ns(), False

    def set_attribute(self, key: str, value: Any) -> None:
        self._attributes[key] = value

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        self._attributes.update(attributes)

    def update_name(self, name: str) -> None:
        self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        self._status = status if isinstance(status, Status) else Status(status, description)

    def record_exception(self, exception: BaseException, *_: Any, **__: Any) -> None:
        self._error = exception

    def end(self, end_time: int | None = None) -> None:
        """Tells of it where it is worth that."""
        if self._is_over:
            return
        self._is_over = True
        ended = end_time or time.time_ns()
        if self._status is not None and self._status.status_code is StatusCode.ERROR:
            self._tell("error", ended)
        elif ended - self._began >= _slow_seconds() * 1e9:
            self._tell("slow", ended)

    def _tell(self, reason: str, ended: int) -> None:
        _BY_REASON[reason].inc()
        context, links = otel_context.set_value(_MUST_BE_TOLD, True, Context()), [*self._options.get("links", ())]
        if self._above.is_valid:
            links.append(Link(self._above))
            span = self._start(context, links)
        else:
            with begun_as(self.get_span_context()):
                span = self._start(context, links)
        if self._error is not None:
            span.record_exception(self._error)
        if self._status is not None:
            span.set_status(self._status)
        span.end(ended)

    def _start(self, context: Context, links: Sequence[Link]) -> trace.Span:
        kind = self._options.get("kind", SpanKind.INTERNAL)
        return self._tracer.start_span(self._name, context, kind, self._attributes, links, start_time=self._began)


def _slow_seconds() -> float:
    sampler = getattr(trace.get_tracer_provider(), "sampler", None)
    return sampler.slow_seconds if isinstance(sampler, TraceBound) else float("inf")


def is_counted(span: trace.Span) -> bool:
    """Whether the span's trace is beyond the bound: nothing of it is told, so nothing need be made for it."""
    context = span.get_span_context()
    return context.is_valid and not context.trace_flags.sampled


def start_kept_span(
    tracer: trace.Tracer, name: str, context: Context | None = None, **options: Unpack[SpanOptions]
) -> trace.Span:
    """A span that is told of at its end, though its trace is not, when it has failed or was slow."""
    span = tracer.start_span(name, context, **options)
    if span.is_recording() or not is_counted(span):
        return span
    above = trace.get_current_span(context).get_span_context()
    return LateSpan(span.get_span_context(), above, tracer, name, options)


@contextmanager
def kept_span(
    tracer: trace.Tracer, name: str, context: Context | None = None, **options: Unpack[SpanOptions]
) -> Iterator[trace.Span]:
    """The same around a block, as the current span; an exception is its error, but for a mistake of the caller's."""
    span = start_kept_span(tracer, name, context, **options)
    token = otel_context.attach(trace.set_span_in_context(span))
    try:
        yield span
    except Exception as error:
        if not isinstance(error, ErrandError) or error.status.http >= HTTPStatus.INTERNAL_SERVER_ERROR:
            span.record_exception(error)
            span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        raise
    finally:
        otel_context.detach(token)
        span.end()
