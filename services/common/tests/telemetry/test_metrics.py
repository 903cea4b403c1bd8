"""The metric table and its page."""

import httpx
import pytest
from errand_common.errors import Cancelled, ErrandError, InvalidArgument, Unavailable
from errand_common.telemetry.bound import TraceBound
from errand_common.telemetry.metrics import (
    LLM_FAILURES,
    METRICS,
    RPC_DURATION,
    BoundedLabel,
    counter,
    counting_llm_failures,
    exemplar,
    from_zero,
    serve_metrics,
    set_serving,
)
from errand_common.telemetry.tracing import make_provider
from errand_common.testing.keys import free_port
from prometheus_client import CollectorRegistry


def test_the_page_shows_the_table_s_rows_and_health() -> None:
    port = free_port()
    server = serve_metrics(port)
    assert server is not None
    try:
        page = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").text == "ok\n"
        for serving, status in ((False, 503), (True, 200), (False, 503)):
            set_serving(serving)
            assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == status
        assert httpx.get(f"http://127.0.0.1:{port}/other").status_code == 404
    finally:
        server.shutdown()
        server.server_close()
    for row in METRICS.values():
        assert f"# HELP {row.name} {row.meaning}" in page


def test_what_is_shown_from_zero_is_there_before_it_happens() -> None:
    registry = CollectorRegistry()
    faults = counter("test_faults_total", "Faults", "method", "code", registry=registry)
    from_zero(faults, ["Get", "Put"], ["INTERNAL"])
    faults.labels("Get", "INTERNAL").inc()
    from_zero(faults, ["Get"], ["INTERNAL"])
    shown = {
        method: registry.get_sample_value("test_faults_total", {"method": method, "code": "INTERNAL"})
        for method in ("Get", "Put", "Del")
    }
    assert shown == {"Get": 1, "Put": 0, "Del": None}


def test_off_means_off() -> None:
    assert serve_metrics(0) is None


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="rpc_server_requests_total"):
        counter("rpc_server_requests_total", "again", registry=CollectorRegistry())


def test_a_point_leads_to_its_trace_where_openmetrics_is_asked_for() -> None:
    port = free_port()
    server = serve_metrics(port)
    assert server is not None
    with make_provider("test", TraceBound(10, 10)).get_tracer("test").start_as_current_span("call") as span:
        RPC_DURATION.labels("errand.test.v1.TestService/Slow").observe(0.3, exemplar())
    trace_id = f"{span.get_span_context().trace_id:032x}"
    try:
        url = f"http://127.0.0.1:{port}/metrics"
        page = httpx.get(url, headers={"Accept": "application/openmetrics-text"}).text
        [bucket] = [line for line in page.splitlines() if trace_id in line]
        assert 'le="0.5"' in bucket
        assert f'1.0 # {{trace_id="{trace_id}"}} 0.3' in bucket
        assert trace_id not in httpx.get(url).text
    finally:
        server.shutdown()
        server.server_close()


def test_outside_of_a_trace_there_is_nothing_to_lead_to() -> None:
    assert exemplar() is None


def test_names_that_people_give_are_bounded() -> None:
    label = BoundedLabel(2)
    assert [label.of(name) for name in ("a", "b", "c", "a", "d", "b")] == ["a", "b", "other", "a", "other", "b"]


@pytest.mark.parametrize(
    ("error", "counted"),
    [(Unavailable("inference"), 1), (InvalidArgument("no", field="x"), 0), (Cancelled("gone"), 0)],
)
def test_a_caller_s_mistake_is_no_failure_of_a_model(error: ErrandError, counted: int) -> None:
    before = LLM_FAILURES.labels("test")._value.get()
    with pytest.raises(type(error)), counting_llm_failures("test"):
        raise error
    assert LLM_FAILURES.labels("test")._value.get() - before == counted
