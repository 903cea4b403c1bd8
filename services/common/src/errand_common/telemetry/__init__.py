"""Logs, traces and metrics, the same in every service."""

from errand_common.telemetry.logs import configure_logging
from errand_common.telemetry.tracing import configure_tracing, root_span, shutdown_tracing, tracer

__all__ = ["configure_logging", "configure_tracing", "root_span", "shutdown_tracing", "tracer"]
