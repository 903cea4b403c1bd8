"""The metric table and its page."""

import httpx
import pytest
from errand_common.telemetry.metrics import METRICS, counter, serve_metrics, set_serving
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


def test_off_means_off() -> None:
    assert serve_metrics(0) is None


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="rpc_server_requests_total"):
        counter("rpc_server_requests_total", "again", registry=CollectorRegistry())
