"""The metric table is whole, and its page is the code's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from charts.observability import __main__ as generator
from charts.observability.table import PROJECT, SERVICES, exported_series, metric_table


def test_no_page_is_stale() -> None:
    assert [str(path) for path in generator.stale()] == [], "run `make docs`"


def test_a_stale_page_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "metrics.md"
    page.write_text("old")
    monkeypatch.setattr(generator, "outputs", lambda: {page: "new", tmp_path / "missing.md": "x"})
    assert generator.stale() == [page, tmp_path / "missing.md"]


def test_each_service_has_rows_of_its_own() -> None:
    assert {metric.service for metric in metric_table()} >= {"every service", *SERVICES}


def _sources(pattern: str) -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted(PROJECT.glob(pattern))]


def test_each_metric_is_looked_at_by_a_test() -> None:
    """By its series' name, or by the constant that counts it; what checks rules and panels counts nothing."""
    code = "\n".join(_sources("services/*/src/**/*.py"))
    tests = "\n".join([*_sources("services/*/tests/**/test_*.py"), *_sources("tests/e2e/test_*.py")])
    found = re.findall(r'(?m)^([A-Z_]+)(?:: Final)? = (?:counter|gauge|histogram)\(\s*"(\w+)"', code)
    constants = {name: constant for constant, name in found}
    unseen = [
        metric.name
        for metric in metric_table()
        if not re.search(rf"\b{metric.name}(_count|_sum|_bucket)?\b", tests)
        and not re.search(rf"\b{constants.get(metric.name, metric.name)}\.?[\w()., \"]*\._(value|sum)\b", tests)
    ]
    assert unseen == []


def test_labels_never_hold_ids() -> None:
    unbounded = {"tenant", "tenant_id", "run_id", "request_id", "user", "key_id", "client", "conversation_id"}
    assert [metric.name for metric in metric_table() if unbounded & set(metric.labels)] == []


def test_a_histogram_is_stored_under_three_names() -> None:
    series = exported_series()
    assert series["rpc_server_duration_seconds_bucket"] == {"method", "le"}
    assert series["rpc_server_duration_seconds_count"] == {"method"}
    assert "rpc_server_duration_seconds" not in series
