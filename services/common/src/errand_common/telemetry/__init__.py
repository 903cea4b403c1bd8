"""Logs, traces and metrics, the same in every service."""

from errand_common.telemetry.logs import configure_logging
from errand_common.telemetry.tracing import (
    carried_trace,
    configure_tracing,
    entered_trace,
    shutdown_tracing,
    tracer,
)

__all__ = [
    "carried_trace",
    "configure_logging",
    "configure_tracing",
    "entered_trace",
    "shutdown_tracing",
    "tracer",
]
