"""Spans that a test makes, for a look at what was traced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from errand_common.telemetry.bound import TraceBound
from errand_common.telemetry.story import story_span
from errand_common.telemetry.tracing import make_provider

# Traces a second: more than tests begin.
_ENOUGH = 1e6


class RecordedSpans(SpanProcessor):
    """Ended spans, in order. OpenTelemetry's provider is one a process, so all tests share one."""

    def __init__(self) -> None:
        self.bound = TraceBound(_ENOUGH, slow_seconds=3600)
        self.ended: list[ReadableSpan] = []
        self._is_recording = False

    @classmethod
    def install(cls) -> RecordedSpans:
        """Makes the process's provider; may be called once."""
        recorded = cls()
        provider = make_provider("test", recorded.bound)
        provider.add_span_processor(recorded)
        trace.set_tracer_provider(provider)
        return recorded

    def on_end(self, span: ReadableSpan) -> None:
        """Keeps the span while a test records."""
        if self._is_recording:
            self.ended.append(span)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Forgets what came before; keeps what ends inside the block."""
        self.ended.clear()
        self._is_recording = True
        try:
            yield
        finally:
            self._is_recording = False

    @contextmanager
    def counting(self, *, slow_seconds: float = 3600) -> Iterator[None]:
        """Traces that begin inside the block are beyond the bound."""
        known = self.bound.slow_seconds
        self.bound.per_second, self.bound.slow_seconds = 0, slow_seconds
        try:
            yield
        finally:
            self.bound.per_second, self.bound.slow_seconds = _ENOUGH, known

    def story(self) -> dict[str, ReadableSpan]:
        """What MLflow would get, by name."""
        selected = (story_span(span) for span in self.ended)
        return {span.name: span for span in selected if span is not None}

    def parent_in_story(self, name: str) -> str | None:
        """The name of a span's parent there, None for a root; raises LookupError for an orphan."""
        story = self.story()
        parent = story[name].parent
        if parent is None:
            return None
        for other in story.values():
            if other.context is not None and other.context.span_id == parent.span_id:
                return other.name
        raise LookupError(f"the parent of {name} was never sent")
