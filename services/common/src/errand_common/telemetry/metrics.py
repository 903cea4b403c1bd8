"""The metric table: every series this suite exports, with its labels and meaning."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from opentelemetry import trace
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from errand_common.errors import Cancelled, ErrandError, InvalidArgument, NotFound

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

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
METRICS: Mapping[str, MetricRow] = MappingProxyType(_TABLE)
"""Every row registered in this process, by name."""


def _register(row: MetricRow) -> MetricRow:
    if row.name in _TABLE:
        raise ValueError(f"metric {row.name} is registered twice")
    _TABLE[row.name] = row
    return row


def counter(name: str, meaning: str, *labels: str, registry: CollectorRegistry = REGISTRY) -> Counter:
    """A counter and its row; the name ends in _total."""
    _register(MetricRow(name, "counter", meaning, labels))
    return Counter(name, meaning, labels, registry=registry)


def from_zero(counter: Counter, *values: Iterable[str]) -> None:
    """Shows the series of all these labels' values now: of one that is born with its first event no rate tells."""
    for labels in itertools.product(*values):
        counter.labels(*labels)


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


def exemplar(span: trace.Span | None = None) -> dict[str, str] | None:
    """The trace of this span, or of the current one, for a histogram's `observe(…, exemplar())`.

    From the figure a click then leads to a request. Shown to scrapers that ask for OpenMetrics; None
    outside of a trace, and in one that is not told.
    """
    context = (span or trace.get_current_span()).get_span_context()
    return {"trace_id": f"{context.trace_id:032x}"} if context.is_valid and context.trace_flags.sampled else None


class BoundedLabel:
    """A label of names that people give: the first `most` keep theirs, all that come later share "other"."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def of(self, name: str) -> str:
        """The label's value for this name."""
        if name not in self._known:
            if len(self._known) >= self._most:
                return "other"
            self._known.add(name)
        return name


RPC_REQUESTS = counter("rpc_server_requests_total", "gRPC calls served, by method and status code", "method", "code")
RPC_DURATION = histogram("rpc_server_duration_seconds", "Time from a call's arrival to its end", "method")
RPC_IN_FLIGHT = gauge("rpc_server_in_flight", "gRPC calls being served now", "method")
SPANS_DROPPED = counter("telemetry_spans_dropped_total", "Spans lost because the buffer was full")
LLM_FAILURES = counter(
    "llm_failures_total", "Requests to a model that failed, by the component that asked", "component"
)
CIRCUITS_OPEN = gauge("circuits_open", "Circuits that let no call through now, by what is behind them", "target")

# What the caller did wrong or no longer wants is no failure of a model.
_NO_FAILURE = (InvalidArgument, NotFound, Cancelled)


@contextmanager
def counting_llm_failures(component: str) -> Iterator[None]:
    """Counts an ErrandError of a request to a model inside the block, and lets it through."""
    from_zero(LLM_FAILURES, [component])
    try:
        yield
    except ErrandError as error:
        if not isinstance(error, _NO_FAILURE):
            LLM_FAILURES.labels(component).inc()
        raise


_serving = threading.Event()


def set_serving(serving: bool) -> None:
    """What /readyz answers from now on: it says over HTTP what gRPC health says."""
    if serving:
        _serving.set()
    else:
        _serving.clear()


def serve_metrics(port: int, host: str = "127.0.0.1") -> WSGIServer | None:
    """Serves /metrics, /healthz and /readyz in a thread of its own; a port of 0 serves nothing.

    Raises OSError when the port is taken.
    """
    if not port:
        return None
    server = make_server(host, port, _pages(), ThreadingWSGIServer, handler_class=_SilentHandler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


def _pages() -> WSGIApplication:
    metrics: WSGIApplication = make_wsgi_app()

    def pages(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                return metrics(environ, start)
            case "/healthz":
                start("200 OK", [("Content-Type", "text/plain")])
                return [b"ok\n"]
            case "/readyz":
                ready = _serving.is_set()
                start("200 OK" if ready else "503 Service Unavailable", [("Content-Type", "text/plain")])
                return [b"ready\n" if ready else b"not ready\n"]
            case _:
                start("404 Not Found", [("Content-Type", "text/plain")])
                return [b"There are /metrics, /healthz and /readyz.\n"]

    return pages


class _SilentHandler(WSGIRequestHandler):
    """Scrapes every few seconds are no news."""

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""
