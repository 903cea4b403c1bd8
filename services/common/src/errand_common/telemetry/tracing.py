"""Spans to an OTLP endpoint. Nothing here may slow or fail a request.

The endpoint may come up long after the services (MLflow takes up to a minute): spans wait in a bounded
buffer and are sent in order as soon as it answers.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Sequence

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from errand_common.settings import ServiceSettings
from errand_common.telemetry.metrics import SPANS_DROPPED

BUFFERED_SPANS = 20_000
_BATCH = 256
_IDLE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 5.0
_FLUSH_SECONDS = 2.0

_provider: TracerProvider | None = None


class PatientProcessor(SpanProcessor):
    """Keeps ended GenAI spans until the exporter takes them; drops and counts the oldest when full."""

    def __init__(self, exporter: SpanExporter, *, capacity: int = BUFFERED_SPANS) -> None:
        self._exporter = exporter
        self._waiting: deque[ReadableSpan] = deque()
        self._capacity = capacity
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def on_start(self, span: Span, parent_context: otel_context.Context | None = None) -> None:
        """Nothing to do."""

    def on_end(self, span: ReadableSpan) -> None:
        """Takes the span if it belongs to a run's story."""
        if not is_genai(span):
            return
        if len(self._waiting) >= self._capacity:
            with contextlib.suppress(IndexError):
                self._waiting.popleft()
                SPANS_DROPPED.inc()
        self._waiting.append(span)
        self._wake.set()

    def _run(self) -> None:
        pause = _IDLE_SECONDS
        while not self._ending.is_set():
            self._wake.wait(_IDLE_SECONDS)
            self._wake.clear()
            if self._waiting:
                pause = _IDLE_SECONDS if self._send() else min(pause * 2, _LONGEST_PAUSE_SECONDS)
                if self._waiting:
                    self._ending.wait(pause)

    def _send(self) -> bool:
        """Sends one batch; on failure the spans stay."""
        batch = list(self._waiting)[:_BATCH]
        try:
            result = self._exporter.export(batch)
        except Exception:  # noqa: BLE001 - an exporter's fault must never reach a request
            return False
        if result is not SpanExportResult.SUCCESS:
            return False
        for _ in batch:
            if self._waiting:
                self._waiting.popleft()
        return True

    def force_flush(self, timeout_millis: int = int(_FLUSH_SECONDS * 1000)) -> bool:
        """Sends what waits, for at most the time given."""
        until = time.monotonic() + timeout_millis / 1000
        while self._waiting and time.monotonic() < until and self._send():
            pass
        return not self._waiting

    def shutdown(self) -> None:
        """Flushes and ends."""
        self._ending.set()
        self._wake.set()
        self._thread.join(_FLUSH_SECONDS)
        self.force_flush()
        self._exporter.shutdown()


def is_genai(span: ReadableSpan) -> bool:
    """Whether a span tells of a run, a model step, a tool or a retrieval."""
    return any(key.startswith(("gen_ai.", "mlflow.")) for key in (span.attributes or {}))


class _QuickExporter(SpanExporter):
    """The OTLP exporter with a short time-out; patience is the processor's."""

    def __init__(self, endpoint: str, headers: dict[str, str]) -> None:
        self._inner = OTLPSpanExporter(endpoint=endpoint, headers=headers, timeout=3)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        # Without this mark the exporter's own HTTP call would be traced too.
        token = otel_context.attach(otel_context.set_value("suppress_instrumentation", True))
        try:
            return self._inner.export(spans)
        finally:
            otel_context.detach(token)

    def shutdown(self) -> None:
        self._inner.shutdown()  # type: ignore[no-untyped-call]


def configure_tracing(service: str, settings: ServiceSettings) -> None:
    """Sends this process's spans to the settings' endpoint; without one, spans go nowhere."""
    global _provider  # noqa: PLW0603 - OpenTelemetry's provider is one a process
    if settings.otlp_endpoint is None or _provider is not None:
        return
    _provider = TracerProvider(resource=Resource.create({"service.name": f"errand-{service}"}))
    _provider.add_span_processor(PatientProcessor(_QuickExporter(settings.otlp_endpoint, settings.otlp_headers)))
    trace.set_tracer_provider(_provider)


def shutdown_tracing() -> None:
    """Flushes what waits, for two seconds at most."""
    if _provider is not None:
        _provider.shutdown()


def tracer(name: str) -> trace.Tracer:
    """A tracer for a module."""
    return trace.get_tracer(name)
