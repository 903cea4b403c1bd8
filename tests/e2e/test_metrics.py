"""A real Prometheus scrapes the running suite: series, rules, dashboards and exemplars are there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from charts.observability.alerts import ALERTS
from charts.observability.dashboards import DASHBOARDS
from charts.observability.slo import OBJECTIVES, recording_groups
from charts.observability.table import SERVICES, metric_table
from tests.e2e.conftest import Suite, errand
from tests.e2e.prometheus import Prometheus, scraping
from tests.e2e.traces import root_of, trace_in_mlflow
from tests.observability.promtool import FILES

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

# What this module's requests must have moved, whatever ran before them.
MOVED = (
    'requests_total{agent="default",node="think"}',
    'requests_total{agent="default",node="act"}',
    'requests_total{agent="default",node="retrieve"}',
    'node_latency_ms_count{node="think"}',
    "sum(token_budget_used_count)",
    "sum(token_budget_remaining_sum)",
    "sum(rate_limit_allowed_total)",
    "sum(context_retrievals_total)",
    "sum(context_storage_total)",
    'facts_insert_requests_total{status="OK"}',
    'facts_query_requests_total{status="OK"}',
    "sum(facts_duplicates_total)",
    'facts_request_duration_seconds_count{endpoint="insert"}',
    'sum(http_requests_total{route="/api/v1/chat",status="200"})',
    'quota_reservations_total{result="granted"}',
    'llm_tokens_total{direction="completion"}',
    "sum(llm_first_token_seconds_count)",
    "sum(llm_embedded_texts_total)",
    "sum(rpc_server_duration_seconds_count)",
    "sum(rag_searches_total)",
    "sum(rag_search_duration_seconds_count)",
    'llm_model_loads_total{result="loaded"}',
    'sum(tool_call_duration_seconds_count{tool="calculator"})',
    'rag_ingestion_attempts_total{outcome="done"}',
    'tool_calls_total{tool="calculator",status="succeeded"}',
    'sum(agent_runs_total{stop_reason="ANSWER"})',
    *(f'sum(rpc_server_requests_total{{job="errand-{name}",code="OK"}})' for name in SERVICES if name != "gateway"),
)
# Alerts and objectives count the first of these too, so they are there before it happens.
FROM_ZERO = (
    'agent_runs_total{stop_reason="INTERNAL"}',
    'agent_runs_total{stop_reason="INCOMPATIBLE"}',
    'tool_calls_total{tool="custom",status="unsettled"}',
    'rag_ingestion_attempts_total{outcome="fault"}',
    'rag_searches_total{mode="hybrid",degraded="true"}',
    'llm_failures_total{component="agent"}',
    'http_requests_total{method="POST",route="/api/v1/chat",status="503"}',
    'rpc_server_requests_total{method="errand.inference.v1.InferenceService/GenerateStream",code="UNAVAILABLE"}',
)
# Nothing of the kind happens in a suite that is well.
QUIET_PANELS = frozenset(
    {
        "Attempts that a model failed",
        "Questions that another agent took",
    }
)


def _use(suite: Suite, document: Path) -> str:
    """Something of everything; gives a run's id."""
    document.write_text("The warranty of the Heron scanner is 4 years.\n")
    errand("ingest", str(document), "--collection", "scanners", "--data-dir", str(suite.data_dir))
    run = suite.chat("What is 12 * 12?")
    suite.chat("What is the warranty of the Heron scanner?")
    for _ in range(2):
        assert suite.http.post("/api/v1/facts", json={"text": "I scan at night."}).is_success
    assert suite.http.post("/api/v1/facts/query", json={"query": "when do I scan?"}).is_success
    assert suite.http.post("/api/v1/search", json={"query": "warranty"}).is_success
    return str(run["run_id"])


@pytest.fixture(scope="module")
def prometheus(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Begins before the requests, so that rates have a point to begin at."""
    with scraping(suite.metrics, tmp_path_factory.mktemp("prometheus")) as running:
        running.after_scrapes()
        yield running


@pytest.fixture(scope="module")
def run_id(suite: Suite, prometheus: Prometheus, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run among requests that were scraped."""
    asked = ""
    for _ in range(2):
        # A series that begins at one has no rate yet.
        asked = _use(suite, tmp_path_factory.mktemp("scanners") / "scanner.md")
        prometheus.after_scrapes()
    return asked


def test_every_service_is_scraped_without_an_error(prometheus: Prometheus, run_id: str) -> None:
    scrapes = {target["labels"]["job"]: (target["health"], target["lastError"]) for target in prometheus.scrapes()}
    assert scrapes == {f"errand-{name}": ("up", "") for name in SERVICES}


def test_every_metric_of_the_table_is_exported_by_its_services(prometheus: Prometheus, run_id: str) -> None:
    described = prometheus.get("targets/metadata", match_target='{job=~"errand-.*"}')
    exported = {(row["target"]["job"], row["metric"], row["type"]) for row in described}
    for metric in metric_table():
        # In OpenMetrics a counter's family goes without the suffix of its series.
        name = metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
        jobs = [metric.service] if metric.service in SERVICES else SERVICES
        missing = [job for job in jobs if (f"errand-{job}", name, metric.kind) not in exported]
        assert not missing, f"{metric.name} is not exported by {missing}"


@pytest.mark.parametrize("expression", MOVED)
def test_a_figure_moves(prometheus: Prometheus, run_id: str, expression: str) -> None:
    assert prometheus.value(expression) > 0


@pytest.mark.parametrize("series", FROM_ZERO)
def test_a_fault_is_shown_before_the_first(prometheus: Prometheus, run_id: str, series: str) -> None:
    """A series that is born with its first event has no rate of it."""
    assert prometheus.query(f"min_over_time({series}[1h])")


def test_rules_are_loaded_and_evaluated(prometheus: Prometheus, run_id: str) -> None:
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    wanted = {alert.name for alert in ALERTS} | {
        rule["record"]
        for group in recording_groups()
        for rule in group["rules"]  # type: ignore[attr-defined]
    }
    assert {rule["name"] for rule in rules} == wanted
    assert [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] == "err"] == []


def test_no_alert_fires_in_a_suite_that_is_well(prometheus: Prometheus, run_id: str) -> None:
    assert [alert["labels"] for alert in prometheus.get("alerts")["alerts"] if alert["state"] == "firing"] == []


def _expressions(panel: dict[str, Any]) -> list[str]:
    """As Grafana asks them."""
    asked = [target["expr"] for target in panel["targets"] if "expr" in target]
    return [re.sub(r"\$__\w+", "2m", expression) for expression in asked]


@pytest.mark.parametrize("name", [board.name for board in DASHBOARDS if board.name not in ("cost", "slo")])
def test_panels_show_what_was_measured(prometheus: Prometheus, run_id: str, name: str) -> None:
    panels = json.loads((FILES / "dashboards" / f"{name}.json").read_text())["panels"]
    prometheus.recorded(lambda: _empty(prometheus, panels) <= QUIET_PANELS)
    assert _empty(prometheus, panels) - QUIET_PANELS == set()


def _empty(prometheus: Prometheus, panels: list[dict[str, Any]]) -> set[str]:
    """Titles of the panels that show nothing."""
    return {panel["title"] for panel in panels if not any(map(prometheus.query, _expressions(panel)))}


def test_panels_of_objectives_tell_of_each(prometheus: Prometheus, run_id: str) -> None:
    panels = json.loads((FILES / "dashboards" / "slo.json").read_text())["panels"]
    wanted = {(objective.service, objective.slo) for objective in OBJECTIVES}
    for [expression] in map(_expressions, panels):
        prometheus.recorded(lambda expression=expression: _objectives(prometheus, expression) == wanted)
        assert _objectives(prometheus, expression) == wanted, expression


def _objectives(prometheus: Prometheus, expression: str) -> set[tuple[str, str]]:
    found = [series["metric"] for series in prometheus.query(expression)]
    return {(labels["service"], labels["slo"]) for labels in found}


def test_a_point_of_a_latency_leads_to_a_trace_in_mlflow(suite: Suite, prometheus: Prometheus, run_id: str) -> None:
    now = prometheus.value("vector(time())")
    found = prometheus.get(
        "query_exemplars",
        query='http_request_duration_seconds_bucket{route="/api/v1/chat"}',
        start=str(now - 600),
        end=str(now),
    )
    points = [point for series in found for point in series["exemplars"]]
    assert points, "no exemplar was stored"
    # Older ones may be of chats whose services other tests killed.
    newest = max(points, key=lambda point: float(point["timestamp"]))
    assert root_of(trace_in_mlflow(suite, newest["labels"]["trace_id"])).name == "chat request"
