"""The metric table is whole, and its page is the code's."""

from __future__ import annotations

from pathlib import Path

import pytest

from charts.observability import __main__ as generator
from charts.observability.table import SERVICES, exported_series, metric_table


def test_no_page_is_stale() -> None:
    assert [str(path) for path in generator.stale()] == [], "run `make docs`"


def test_a_stale_page_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "metrics.md"
    page.write_text("old")
    monkeypatch.setattr(generator, "outputs", lambda: {page: "new", tmp_path / "missing.md": "x"})
    assert generator.stale() == [page, tmp_path / "missing.md"]


def test_each_service_has_rows_of_its_own() -> None:
    assert {metric.service for metric in metric_table()} >= {"every service", *SERVICES}


def test_labels_never_hold_ids() -> None:
    unbounded = {"tenant", "tenant_id", "run_id", "request_id", "user", "key_id", "client", "conversation_id"}
    assert [metric.name for metric in metric_table() if unbounded & set(metric.labels)] == []


def test_a_histogram_is_stored_under_three_names() -> None:
    series = exported_series()
    assert series["rpc_server_duration_seconds_bucket"] == {"method", "le"}
    assert series["rpc_server_duration_seconds_count"] == {"method"}
    assert "rpc_server_duration_seconds" not in series
