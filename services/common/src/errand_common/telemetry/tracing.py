"""Spans of this process, and where they go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from errand_common.settings import ServiceSettings
from errand_common.telemetry.bound import TraceBound, is_counted
from errand_common.telemetry.content import content_filter
from errand_common.telemetry.export import OtlpSender, Outlet, PatientOutlet, SpanGatherer
from errand_common.telemetry.story import AncestorNotes, RepeatableIds, story_span, with_story

_provider: TracerProvider | None = None
_traceparent = TraceContextTextMapPropagator()


def configure_tracing(service: str, settings: ServiceSettings) -> None:
    """Sends this process's spans where the settings say: all to OTLP, the runs' story to MLflow."""
    global _provider  # noqa: PLW0603 - OpenTelemetry's provider is one a process
    if _provider is not None or not (settings.otlp_endpoint or settings.mlflow_endpoint):
        return
    _provider = make_provider(service, TraceBound(settings.traces_per_second, settings.slow_trace_seconds))
    allowed = content_filter(settings.trace_content)
    outlets: list[Outlet] = []
    if settings.otlp_endpoint:
        outlets.append((PatientOutlet(OtlpSender(settings.otlp_endpoint, settings.otlp_headers)), allowed))
    if settings.mlflow_endpoint:
        outlet = PatientOutlet(OtlpSender(settings.mlflow_endpoint, settings.mlflow_headers))
        outlets.append((outlet, lambda span: story_span(allowed(span))))
    _provider.add_span_processor(SpanGatherer(*outlets))
    trace.set_tracer_provider(_provider)


def make_provider(service: str, bound: TraceBound) -> TracerProvider:
    """A provider whose spans know their story, of as many traces as may begin; it sends them nowhere yet."""
    resource = Resource.create({"service.name": f"errand-{service}"})
    provider = TracerProvider(bound, resource, shutdown_on_exit=False, id_generator=RepeatableIds())
    provider.add_span_processor(AncestorNotes())
    return provider


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
    if is_counted(trace.get_current_span(context)):
        # It has no story either.
        _traceparent.inject(carrier, context)
        return carrier
    propagate.inject(carrier, with_story(context))
    return carrier


def told_to_others(span: trace.Span) -> dict[str, str]:
    """The header that tells a service of others by which span it is called; of ours it tells nothing else."""
    carrier: dict[str, str] = {}
    _traceparent.inject(carrier, trace.set_span_in_context(span))
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
