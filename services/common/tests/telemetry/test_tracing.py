"""Spans wait for an endpoint that is not up yet, and never for ever."""

import time
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from errand_common.telemetry import genai
from errand_common.telemetry.metrics import SPANS_DROPPED
from errand_common.telemetry.tracing import PatientProcessor


class _Endpoint(SpanExporter):
    """Fails, raises, then works."""

    def __init__(self, failures: int) -> None:
        self.failures, self.names = failures, []  # type: ignore[var-annotated]

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.failures:
            self.failures -= 1
            if self.failures % 2:
                raise ConnectionError("refused")
            return SpanExportResult.FAILURE
        self.names.extend(span.name for span in spans)
        return SpanExportResult.SUCCESS


def _spans(processor: PatientProcessor, count: int) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("test")
    for number in range(count):
        with tracer.start_as_current_span(str(number), attributes={genai.OPERATION: genai.CHAT}):
            pass


def _wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    assert condition()


def test_no_span_is_lost_while_the_endpoint_is_away() -> None:
    endpoint = _Endpoint(failures=2)
    processor = PatientProcessor(endpoint)
    _spans(processor, 600)
    _wait(lambda: len(endpoint.names) == 600)
    assert endpoint.names == [str(number) for number in range(600)]
    processor.shutdown()


def test_the_buffer_is_bounded_and_what_is_dropped_is_counted() -> None:
    before = SPANS_DROPPED._value.get()
    endpoint = _Endpoint(failures=10**9)
    processor = PatientProcessor(endpoint, capacity=50)
    _spans(processor, 80)
    assert SPANS_DROPPED._value.get() - before == 30
    began = time.monotonic()
    processor.shutdown()
    assert time.monotonic() - began < 10


def test_only_the_run_s_own_spans_are_sent() -> None:
    endpoint = _Endpoint(failures=0)
    processor = PatientProcessor(endpoint)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    with provider.get_tracer("test").start_as_current_span("SELECT 1"):
        pass
    with provider.get_tracer("test").start_as_current_span("step", attributes={genai.MLFLOW_SPAN_TYPE: "CHAIN"}):
        pass
    assert processor.force_flush()
    processor.shutdown()
    assert endpoint.names == ["step"]
