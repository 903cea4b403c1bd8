"""Each alert fires on the trouble it is for, with these words, and is silent without it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import yaml

from charts.observability.alerts import ALERTS, Alert
from charts.observability.expressions import faults
from charts.observability.slo import OBJECTIVES, recording_groups
from tests.observability.promtool import FILES, promtool

_RUN = 'rpc_server_in_flight{method="errand.agent.v1.AgentService/RunAgent"}'
_SEARCH = 'rpc_server_requests_total{method="errand.rag.v1.RagService/Search",code='


@dataclass(frozen=True, slots=True)
class Case:
    """Series a minute apart; what fires at `at`: the labels that the expression gives, and the summary."""

    alert: str
    series: dict[str, str]
    at: str
    summary: str = ""
    labels: dict[str, str] = field(default_factory=dict)


_FAST = "ErrandErrorBudgetBurnsFast"
_GATEWAY = {"service": "gateway", "slo": "availability"}
_GATEWAY_WORDS = "gateway: availability burns its 30-day budget within days (5% of requests are bad)"
_CERTIFICATE = 'certmanager_certificate_expiration_timestamp_seconds{name="errand-tls"}'
_INFERENCE = 'kube_pod_status_ready{condition="true",pod="errand-inference-0"}'
_OK_500 = {
    'http_requests_total{method="POST",route="/api/v1/chat",status="200"}': "0+95x180",
    'http_requests_total{method="POST",route="/api/v1/chat",status="500"}': "0+5x180",
}
CASES = (
    Case(_FAST, _OK_500, "70m", _GATEWAY_WORDS, _GATEWAY),
    # One bad request in 2,000 is within the budget of one in 1,000.
    Case(_FAST, {key: value.replace("+95", "+1999").replace("+5x", "+1x") for key, value in _OK_500.items()}, "70m"),
    # The caller's own mistakes cost no budget, nor what is not offered; neither do streams that last.
    Case(_FAST, {key.replace("500", "422"): value for key, value in _OK_500.items()}, "70m"),
    Case(_FAST, {key.replace("500", "501"): value for key, value in _OK_500.items()}, "70m"),
    Case(_FAST, {key.replace("/chat", "/runs/{run_id}/events"): value for key, value in _OK_500.items()}, "70m"),
    Case(_FAST, {f'{_SEARCH}"NOT_FOUND"}}': "0+5x180", f'{_SEARCH}"OK"}}': "0+95x180"}, "70m"),
    # It ended 40 minutes ago: the short windows are clean again, though the long ones are not.
    Case(
        _FAST,
        {
            next(iter(_OK_500)): "0+95x60 5795+100x60",
            list(_OK_500)[1]: "0+5x60 300x60",
        },
        "100m",
    ),
    Case(
        _FAST,
        {f'{_SEARCH}"UNAVAILABLE"}}': "0+10x180", f'{_SEARCH}"OK"}}': "0+90x180"},
        "70m",
        "rag: availability burns its 30-day budget within days (10% of requests are bad)",
        {"service": "rag", "slo": "availability"},
    ),
    Case(
        _FAST,
        {
            'rpc_server_duration_seconds_bucket{method="errand.rag.v1.RagService/Search",le="1.0"}': "0+50x180",
            'rpc_server_duration_seconds_count{method="errand.rag.v1.RagService/Search"}': "0+100x180",
        },
        "70m",
        "rag: latency burns its 30-day budget within days (50% of requests are bad)",
        {"service": "rag", "slo": "latency"},
    ),
    Case(
        "ErrandErrorBudgetBurnsSlowly",
        {next(iter(_OK_500)): "0+9950x1600", list(_OK_500)[1]: "0+50x1600"},
        "25h",
        "gateway: availability uses up its 30-day budget before its time (0.5% of requests are bad)",
        _GATEWAY,
    ),
    Case(
        "ErrandComponentDown",
        {'up{job="errand-metrics",instance="10.0.0.7:9090"}': "0x20"},
        "10m",
        "10.0.0.7:9090 of errand-metrics answers no scrape",
        {"job": "errand-metrics", "instance": "10.0.0.7:9090"},
    ),
    Case("ErrandComponentDown", {'up{job="errand-metrics"}': "0 0 1x20"}, "10m"),
    Case("ErrandComponentDown", {'up{job="somebody-else"}': "0x20"}, "10m"),
    Case(
        "ErrandModelNotLoaded",
        {_INFERENCE: "0x20"},
        "15m",
        "errand-inference-0 has not been ready for 10 minutes: its model is not loaded",
        {"condition": "true", "pod": "errand-inference-0"},
    ),
    Case("ErrandModelNotLoaded", {_INFERENCE: "0x5 1x20"}, "15m"),
    Case(
        "ErrandVolumeFillsUp",
        {
            'kubelet_volume_stats_available_bytes{persistentvolumeclaim="data-errand-rag-0"}': "5x30",
            'kubelet_volume_stats_capacity_bytes{persistentvolumeclaim="data-errand-rag-0"}': "100x30",
        },
        "20m",
        "data-errand-rag-0 has 5% left",
        {"persistentvolumeclaim": "data-errand-rag-0"},
    ),
    Case("ErrandCertificateExpires", {_CERTIFICATE: "2592000x200"}, "2h"),
    Case(
        "ErrandCertificateExpires",
        {_CERTIFICATE: "439200x200"},
        "2h",
        "A certificate expires in 5d 0h 0m 0s and was not renewed",
        {"name": "errand-tls"},
    ),
    Case(
        "ErrandInferenceQueueLong",
        {
            'llm_queue_depth{model="errand-tiny"}': "80x20",
            'llm_queue_wait_seconds_bucket{le="2.5"}': "0+10x20",
            'llm_queue_wait_seconds_bucket{le="10.0"}': "0+100x20",
            'llm_queue_wait_seconds_bucket{le="+Inf"}': "0+100x20",
        },
        "15m",
        "80 requests wait for errand-tiny; one in twenty waits over 2 s",
        {"model": "errand-tiny"},
    ),
    # A long queue that moves fast is no trouble.
    Case(
        "ErrandInferenceQueueLong",
        {
            'llm_queue_depth{model="errand-tiny"}': "80x20",
            'llm_queue_wait_seconds_bucket{le="0.5"}': "0+100x20",
            'llm_queue_wait_seconds_bucket{le="+Inf"}': "0+100x20",
        },
        "15m",
    ),
    Case(
        "ErrandCallsInFlightHigh",
        {_RUN: "250x30"},
        "20m",
        "250 calls of errand.agent.v1.AgentService/RunAgent are in flight",
        {"method": "errand.agent.v1.AgentService/RunAgent"},
    ),
    Case("ErrandCallsInFlightHigh", {_RUN.replace("RunAgent", "WatchRun"): "900x30"}, "20m"),
    Case(
        "ErrandCallsShed",
        {f'{_SEARCH}"RESOURCE_EXHAUSTED"}}': "0+10x30", f'{_SEARCH}"OK"}}': "0+90x30"},
        "20m",
        "errand.rag.v1.RagService/Search refuses 10% of its calls for want of room",
        {"method": "errand.rag.v1.RagService/Search"},
    ),
    Case("ErrandRunsStuck", {_RUN: "3x40", 'agent_runs_total{stop_reason="ANSWER"}': "7x40"}, "30m",
         "3 runs are on and none has ended for 15 minutes"),
    Case("ErrandRunsStuck", {_RUN: "3x40"}, "30m", "3 runs are on and none has ended for 15 minutes"),
    Case("ErrandRunsStuck", {_RUN: "3x40", 'agent_runs_total{stop_reason="ANSWER"}': "0+1x40"}, "30m"),
    Case("ErrandRunsStuck", {_RUN: "0x40", 'agent_runs_total{stop_reason="ANSWER"}': "7x40"}, "30m"),
    Case(
        "ErrandRunsFail",
        {'agent_runs_total{stop_reason="INTERNAL"}': "0+1x40", 'agent_runs_total{stop_reason="ANSWER"}': "0+3x40"},
        "30m",
        "25% of runs end by an error",
    ),
    Case(
        "ErrandRunsFail",
        {'agent_runs_total{stop_reason="CANCELLED"}': "0+1x40", 'agent_runs_total{stop_reason="ANSWER"}': "0+3x40"},
        "30m",
    ),
    Case("ErrandIngestionFails", {'rag_ingestion_attempts_total{outcome="fault"}': "0+1x60"}, "40m",
         "30 attempts to ingest documents failed in 30 minutes"),
    Case("ErrandIngestionFails", {'rag_ingestion_attempts_total{outcome="rejected"}': "0+1x60"}, "40m"),
    Case(
        "ErrandRetrievalDegraded",
        {
            'rag_searches_total{mode="hybrid",degraded="true"}': "0+1x40",
            'rag_searches_total{mode="hybrid",degraded="false"}': "0+9x40",
        },
        "30m",
        "10% of searches go without vectors",
    ),
    Case(
        "ErrandToolFails",
        {
            'tool_calls_total{tool="http_get",status="timed_out"}': "0+9x60",
            'tool_calls_total{tool="http_get",status="succeeded"}': "0+1x60",
        },
        "40m",
        "90% of http_get calls fail",
        {"tool": "http_get"},
    ),
    # What the model asked wrongly is not the tool's failure.
    Case("ErrandToolFails", {'tool_calls_total{tool="http_get",status="invalid_arguments"}': "0+9x60"}, "40m"),
    Case(
        "ErrandEffectsUnsettled",
        {'tool_calls_total{tool="custom",status="unsettled"}': "0x30 1x90"},
        "60m",
        "1 calls of custom may or may not have happened and wait for a person",
        {"tool": "custom"},
    ),
    Case("ErrandDeadLetters", {'agent_runs_total{stop_reason="INTERNAL"}': "0x30 2x90"}, "60m",
         "2 runs ended INTERNAL in an hour and can be run again", {"stop_reason": "INTERNAL"}),
    Case("ErrandDeadLetters", {'agent_runs_total{stop_reason="REFUSED"}': "0x30 2x90"}, "60m"),
    Case("ErrandQuotaStoreFails", {"quota_store_failures_total": "0+1x40"}, "20m",
         "Spending could not be booked or leased 10 times in 10 minutes"),
    # One restart of the database is no alert.
    Case("ErrandQuotaStoreFails", {"quota_store_failures_total": "0x10 2x30"}, "20m"),
    Case("ErrandModelRequestsFail", {'llm_failures_total{component="agent"}': "0+2x60"}, "40m",
         "30 requests of agent to a model failed in 15 minutes", {"component": "agent"}),
    Case("ErrandModelRequestsFail", {'llm_failures_total{component="agent"}': "0x20 9x40"}, "25m"),
    Case("ErrandCircuitOpen", {'circuits_open{target="tool endpoints"}': "2x30"}, "20m",
         "2 circuits of tool endpoints have let no call through for 10 minutes", {"target": "tool endpoints"}),
    Case("ErrandCircuitOpen", {'circuits_open{target="tool endpoints"}': "0 1 1 0x30"}, "20m"),
    Case("ErrandRecordsDropped", {"gateway_records_dropped_total": "0x20 15x20"}, "20m"),
    Case("ErrandRecordsDropped", {"gateway_records_dropped_total": "0+1x40"}, "30m",
         "15 usage and audit records were lost in 15 minutes"),
    Case("ErrandSpansDropped", {'telemetry_spans_dropped_total{job="errand-metrics"}': "0+1x60"}, "40m",
         "15 spans were lost in 15 minutes", {"job": "errand-metrics"}),
)  # fmt: skip


def _expected(case: Case) -> dict[str, object]:
    rule = next(alert for alert in ALERTS if alert.name == case.alert).rule()
    fired = {
        "exp_labels": {**rule["labels"], **case.labels},  # type: ignore[dict-item]
        "exp_annotations": {**rule["annotations"], "summary": case.summary},  # type: ignore[dict-item]
    }
    return {"eval_time": case.at, "alertname": case.alert, "exp_alerts": [fired] if case.summary else []}


def _run(cases: list[Case], folder: Path, *, every: str, recording: bool) -> subprocess.CompletedProcess[str]:
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
            "alert_rule_test": [_expected(case)],
        }
        for case in cases
    ]
    rules = [str(FILES / name) for name in (["recording-rules.yaml"] if recording else []) + ["alerts.yaml"]]
    file = folder / "alerts_test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": rules, "evaluation_interval": every, "tests": tests}))
    return promtool("test", "rules", file)


def test_budget_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    # Every five minutes: the recording rules of ten objectives and eight windows are many.
    done = _run([case for case in CASES if "Budget" in case.alert], tmp_path, every="5m", recording=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]


def test_the_other_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    done = _run([case for case in CASES if "Budget" not in case.alert], tmp_path, every="1m", recording=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]


def test_promtool_would_notice_a_silent_alert(tmp_path: Path) -> None:
    """Guards the tests above against expecting nothing."""
    quiet = replace(next(case for case in CASES if case.alert == "ErrandRunsStuck"), series={_RUN: "0x40"})
    assert _run([quiet], tmp_path, every="1m", recording=False).returncode == 1


def test_promtool_reads_the_rules() -> None:
    done = promtool("check", "rules", "--lint-fatal", FILES / "alerts.yaml", FILES / "recording-rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tested_firing() -> None:
    assert {case.alert for case in CASES if case.summary} == {alert.name for alert in ALERTS}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_asks_only_for_what_is_exported(alert: Alert) -> None:
    assert faults(alert.expression) == []


def test_objectives_ask_only_for_what_is_exported() -> None:
    expressions = [rule["expr"] for group in recording_groups() for rule in group["rules"]]  # type: ignore[attr-defined]
    assert {fault for expression in expressions for fault in faults(expression)} == set()
    assert {item.service for item in OBJECTIVES} == {"gateway", "agent", "inference", "rag", "tools"}


def test_a_name_or_label_that_nobody_exports_is_noticed() -> None:
    assert faults("rate(nothing_total[5m])") == ["nothing_total is not exported by any service"]
    assert faults('rate(agent_runs_total{tenant="a"}[5m])') == ["agent_runs_total has no label tenant"]
    assert faults("sum by (tenant) (agent_runs_total)") == ["no series here has the label tenant"]
    assert "does not parse" in faults("sum(")[0]
