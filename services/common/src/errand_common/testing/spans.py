"""Spans that a test makes, for a look at what was traced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace

from errand_common.telemetry.spans import LocalSpan
from errand_common.telemetry.story import is_genai, story_parent
from errand_common.telemetry.tracing import make_provider


class RecordedSpans:
    """Ended spans, in order. OpenTelemetry's provider is one a process, so all tests share one."""

    def __init__(self) -> None:
        self.ended: list[LocalSpan] = []
        self._is_recording = False

    @classmethod
    def install(cls) -> RecordedSpans:
        """Makes the process's provider; may be called once."""
        recorded = cls()
        provider = make_provider("test")
        provider.add_span_processor(recorded)
        trace.set_tracer_provider(provider)
        return recorded

    def on_end(self, span: LocalSpan) -> None:
        """Keeps the span while a test records."""
        if self._is_recording:
            self.ended.append(span)

    def shutdown(self) -> None:
        """Nothing waits."""

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Forgets what came before; keeps what ends inside the block."""
        self.ended.clear()
        self._is_recording = True
        try:
            yield
        finally:
            self._is_recording = False

    def story(self) -> dict[str, LocalSpan]:
        """What MLflow would get, by name."""
        return {span.name: span for span in self.ended if is_genai(span)}

    def parent_in_story(self, name: str) -> str | None:
        """The name of a span's parent there, None for a root; raises LookupError for an orphan."""
        story = self.story()
        parent = story_parent(story[name])
        if parent is None:
            return None
        for other in story.values():
            if other.context.span_id == parent.span_id:
                return other.name
        raise LookupError(f"the parent of {name} was never sent")
