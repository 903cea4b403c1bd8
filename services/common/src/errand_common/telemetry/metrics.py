"""The metric table: every series this suite exports, with its labels and meaning."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    start_http_server,
)

SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
)


@dataclass(frozen=True, slots=True)
class MetricRow:
    """A row of the table. `labels` must have few values each: never ids, never user text."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()


_TABLE: dict[str, MetricRow] = {}


def metric_table() -> tuple[MetricRow, ...]:
    """All rows registered in this process, by name."""
    return tuple(_TABLE[name] for name in sorted(_TABLE))


def _register(row: MetricRow) -> MetricRow:
    if row.name in _TABLE:
        raise ValueError(f"metric {row.name} is registered twice")
    _TABLE[row.name] = row
    return row


def counter(name: str, meaning: str, *labels: str, registry: CollectorRegistry = REGISTRY) -> Counter:
    """A counter and its row; the name ends in _total."""
    _register(MetricRow(name, "counter", meaning, labels))
    return Counter(name, meaning, labels, registry=registry)


def gauge(name: str, meaning: str, *labels: str, registry: CollectorRegistry = REGISTRY) -> Gauge:
    """A gauge and its row."""
    _register(MetricRow(name, "gauge", meaning, labels))
    return Gauge(name, meaning, labels, registry=registry)


def histogram(
    name: str,
    meaning: str,
    *labels: str,
    buckets: tuple[float, ...] = SECONDS,
    registry: CollectorRegistry = REGISTRY,
) -> Histogram:
    """A histogram and its row; seconds unless its name says otherwise."""
    _register(MetricRow(name, "histogram", meaning, labels))
    return Histogram(name, meaning, labels, buckets=buckets, registry=registry)


RPC_REQUESTS = counter("rpc_server_requests_total", "gRPC calls served, by method and status code", "method", "code")
RPC_DURATION = histogram("rpc_server_duration_seconds", "Time from a call's arrival to its end", "method")
RPC_IN_FLIGHT = gauge("rpc_server_in_flight", "gRPC calls being served now", "method")
SPANS_DROPPED = counter("telemetry_spans_dropped_total", "Spans lost because the buffer was full")


def serve_metrics(port: int, host: str = "127.0.0.1") -> None:
    """Serves /metrics in a thread of its own; a port of 0 serves nothing."""
    if port:
        start_http_server(port, addr=host)
