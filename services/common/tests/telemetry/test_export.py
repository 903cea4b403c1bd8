"""Spans wait for an endpoint that is not up yet, and never for ever."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from errand_common.telemetry import export, genai
from errand_common.telemetry.export import Delivery, OtlpSender, PatientOutlet, SpanGatherer, SpanSender
from errand_common.telemetry.metrics import SPANS_DROPPED
from errand_common.telemetry.story import story_span
from errand_common.testing.keys import free_port
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same patience, counted in shorter times."""
    for name, seconds in {"_GATHER": 0.05, "_FIRST_PAUSE": 0.05, "_LONGEST_PAUSE": 0.2, "_FLUSH": 0.5}.items():
        monkeypatch.setattr(export, f"{name}_SECONDS", seconds)


def _whole(span: ReadableSpan) -> ReadableSpan:
    return span


def _gathering(sender: SpanSender, **bounds: int) -> SpanGatherer:
    return SpanGatherer((PatientOutlet(sender, **bounds), _whole))


class _Collector:
    """An OTLP endpoint over real HTTP; refuses batches that hold a span named "bad"."""

    def __init__(self, port: int) -> None:
        self.names: list[str] = []
        self.headers: list[str | None] = []
        self.answer = 200
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self.send_response(collector.take(body, self.headers["x-mlflow-experiment-id"]))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, body: bytes, experiment: str | None) -> int:
        request = ExportTraceServiceRequest.FromString(body)
        names = [span.name for group in request.resource_spans for scope in group.scope_spans for span in scope.spans]
        if self.answer == 200 and "bad" in names:
            return 400
        if self.answer == 200:
            self.names += names
            self.headers.append(experiment)
        return self.answer

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def processor(port: int) -> Iterator[SpanGatherer]:
    sender = OtlpSender(f"http://127.0.0.1:{port}/v1/traces", {"x-mlflow-experiment-id": "7"})
    started = _gathering(sender)
    yield started
    started.shutdown()


def _end_spans(processor: SpanGatherer, names: Sequence[str]) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("test")
    for name in names:
        tracer.start_span(name, attributes={genai.OPERATION: genai.CHAT}).end()


def _wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    assert condition()


def test_no_span_is_lost_while_the_endpoint_is_away(port: int, processor: SpanGatherer) -> None:
    names = [str(number) for number in range(600)]
    began = time.monotonic()
    _end_spans(processor, names[:300])
    assert time.monotonic() - began < 1, "ending a span must not wait for the endpoint"
    assert not processor.force_flush(300)
    collector = _Collector(port)
    collector.answer = 503
    _end_spans(processor, names[300:])
    assert not processor.force_flush(300)
    collector.answer = 200
    _wait(lambda: len(collector.names) >= 600)
    collector.close()
    assert collector.names == names
    assert set(collector.headers) == {"7"}


def test_a_rejected_span_does_not_stop_the_others(port: int, processor: SpanGatherer) -> None:
    before = SPANS_DROPPED._value.get()
    collector = _Collector(port)
    _end_spans(processor, ["a", "bad", "b", "c"])
    assert processor.force_flush(10_000)
    collector.close()
    assert collector.names == ["a", "b", "c"]
    assert SPANS_DROPPED._value.get() - before == 1


def test_what_waits_is_sent_at_the_end(port: int, processor: SpanGatherer) -> None:
    collector = _Collector(port)
    _end_spans(processor, ["last"])
    processor.shutdown()
    collector.close()
    assert collector.names == ["last"]


class _Stuck:
    """An endpoint that takes connections and never answers."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def send(self, spans: Sequence[ReadableSpan]) -> Delivery:
        self.release.wait(60)
        return Delivery.AWAY

    def close(self) -> None:
        """Nothing is open."""


def test_the_buffer_and_the_end_are_bounded_and_losses_are_counted() -> None:
    before = SPANS_DROPPED._value.get()
    endpoint = _Stuck()
    processor = _gathering(endpoint, capacity=50)
    _end_spans(processor, [str(number) for number in range(600)])
    began = time.monotonic()
    processor.shutdown()
    assert time.monotonic() - began < 4
    assert SPANS_DROPPED._value.get() - before == 600
    endpoint.release.set()


def test_only_the_selected_spans_are_sent(port: int) -> None:
    collector = _Collector(port)
    processor = SpanGatherer((PatientOutlet(OtlpSender(f"http://127.0.0.1:{port}/v1/traces", {})), story_span))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("SELECT 1"):
        pass
    with tracer.start_as_current_span("step", attributes={genai.MLFLOW_SPAN_TYPE: "CHAIN"}):
        pass
    assert processor.force_flush(10_000)
    processor.shutdown()
    collector.close()
    assert collector.names == ["step"]


def test_long_texts_fill_the_buffer_before_many_spans_do() -> None:
    before = SPANS_DROPPED._value.get()
    endpoint = _Stuck()
    processor = _gathering(endpoint, capacity_bytes=1024 * 1024)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    for _ in range(200):
        with provider.get_tracer("test").start_as_current_span("long") as span:
            span.set_attribute("mlflow.spanInputs", "x" * 20_000)
    assert not processor.force_flush(1)
    held = 200 - (SPANS_DROPPED._value.get() - before)
    assert 40 <= held <= 52
    processor.shutdown()
    assert SPANS_DROPPED._value.get() - before == 200
    endpoint.release.set()


class _Counting:
    """An endpoint that takes a little while."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def send(self, spans: Sequence[ReadableSpan]) -> Delivery:
        time.sleep(0.002)
        self.batches.append(len(spans))
        return Delivery.SENT

    def close(self) -> None:
        """Nothing is open."""


def test_spans_of_a_busy_process_are_sent_together() -> None:
    """A request for each few spans would cost more than what they tell of."""
    endpoint = _Counting()
    processor = _gathering(endpoint)
    for number in range(100):
        _end_spans(processor, [str(number)])
        time.sleep(0.003)
    assert processor.force_flush(10_000)
    processor.shutdown()
    assert sum(endpoint.batches) == 100
    assert len(endpoint.batches) < 50


def test_a_span_that_cannot_be_written_is_counted_and_the_others_are_sent(port: int) -> None:
    """Whatever a span holds, the work that it tells of goes on."""
    before = SPANS_DROPPED._value.get()

    def select(span: ReadableSpan) -> ReadableSpan | None:
        if span.name == "strange":
            raise TypeError("no value that OTLP knows")
        return span

    collector = _Collector(port)
    gatherer = SpanGatherer((PatientOutlet(OtlpSender(f"http://127.0.0.1:{port}/v1/traces", {})), select))
    _end_spans(gatherer, ["a", "strange", "b"])
    assert gatherer.force_flush(10_000)
    gatherer.shutdown()
    collector.close()
    assert collector.names == ["a", "b"]
    assert SPANS_DROPPED._value.get() - before == 1
