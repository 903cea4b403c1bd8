"""Spans of this process, and where they go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource

from errand_common.settings import ServiceSettings
from errand_common.telemetry.export import OtlpSender, PatientOutlet, SpanGatherer
from errand_common.telemetry.otlp import SpanEncoder
from errand_common.telemetry.spans import STORY_PARENT, LocalTracerProvider
from errand_common.telemetry.story import nearest_story_span

_provider: LocalTracerProvider | None = None


def configure_tracing(service: str, settings: ServiceSettings) -> None:
    """Sends this process's spans where the settings say: all to OTLP, the runs' story to MLflow."""
    global _provider  # noqa: PLW0603 - OpenTelemetry's provider is one a process
    if _provider is not None or not (settings.otlp_endpoint or settings.mlflow_endpoint):
        return
    _provider = make_provider(service)
    encoder = SpanEncoder(settings.trace_content)
    outlets = []
    if settings.otlp_endpoint:
        outlets.append((PatientOutlet(OtlpSender(settings.otlp_endpoint, settings.otlp_headers)), encoder.whole))
    if settings.mlflow_endpoint:
        outlets.append((PatientOutlet(OtlpSender(settings.mlflow_endpoint, settings.mlflow_headers)), encoder.story))
    _provider.add_span_processor(SpanGatherer(*outlets))
    trace.set_tracer_provider(_provider)


def make_provider(service: str) -> LocalTracerProvider:
    """A provider of this service's spans; it sends them nowhere yet."""
    return LocalTracerProvider(Resource.create({"service.name": f"errand-{service}"}))


def shutdown_tracing() -> None:
    """Flushes what waits, for two seconds at most."""
    if _provider is not None:
        _provider.shutdown()


def tracer(name: str) -> trace.Tracer:
    """A tracer for a module."""
    return trace.get_tracer(name)


def carried_trace(context: Context | None = None) -> dict[str, str]:
    """Headers that carry the current trace to another process, or to work that begins later."""
    carrier: dict[str, str] = {}
    span = trace.get_current_span(context).get_span_context()
    # W3C's two headers, written here: OpenTelemetry's propagators take as long as the span does.
    if span.is_valid:
        carrier["traceparent"] = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
    if ancestor := nearest_story_span(context):
        carrier["baggage"] = f"{STORY_PARENT}={ancestor}"
    return carrier


def received_trace(carrier: Mapping[str, str]) -> Context:
    """The context that `carried_trace` put into `carrier`."""
    return propagate.extract(carrier, context=Context())


@contextmanager
def entered_trace(carrier: Mapping[str, str]) -> Iterator[None]:
    """Work inside the block belongs to the trace that `carried_trace` put into `carrier`."""
    token = otel_context.attach(received_trace(carrier))
    try:
        yield
    finally:
        otel_context.detach(token)


def enter_span(span: trace.Span, context: Context) -> None:
    """Makes the span the current one for the rest of this task."""
    otel_context.attach(trace.set_span_in_context(span, context))
