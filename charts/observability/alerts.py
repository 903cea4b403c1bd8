"""Alert rules: what wakes somebody, what waits for the working day, what is only noted."""

from __future__ import annotations

from dataclasses import dataclass

RUNBOOKS = "docs/operations/runbooks"
_RUNS = 'method=~"errand[.]agent[.]v1[.]AgentService/RunAgent.*"'
# How long the budget of 30 days lasts at these multiples: 2 days, 5 days, 10 days, 30 days.
_FAST = (("1h", "5m", 14.4), ("6h", "30m", 6))
_SLOW = (("1d", "2h", 3), ("3d", "6h", 1))


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule. `severity` critical pages (escalation 1), warning is a ticket (2), info is noted (3)."""

    name: str
    expression: str
    lasting: str
    severity: str
    summary: str

    def rule(self) -> dict[str, object]:
        """As Prometheus reads it."""
        escalation = {"critical": "1", "warning": "2", "info": "3"}[self.severity]
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": self.lasting,
            "labels": {"severity": self.severity, "escalation": escalation, "product": "errand"},
            "annotations": {"summary": self.summary, "runbook_url": f"{RUNBOOKS}/{self.name}.md"},
        }


def _burn(windows: tuple[tuple[str, str, float], ...]) -> str:
    return " or ".join(
        f"(errand:errors:ratio_rate{long} > on (service, slo) {factor} * errand:error_budget"
        f" and on (service, slo) errand:errors:ratio_rate{short} > on (service, slo) {factor} * errand:error_budget)"
        for long, short, factor in windows
    )


_SLO = (
    Alert(
        "ErrandErrorBudgetBurnsFast",
        _burn(_FAST),
        "2m",
        "critical",
        "{{ $labels.service }}: {{ $labels.slo }} burns its 30-day budget within days"
        " ({{ $value | humanizePercentage }} of requests are bad)",
    ),
    Alert(
        "ErrandErrorBudgetBurnsSlowly",
        _burn(_SLOW),
        "15m",
        "warning",
        "{{ $labels.service }}: {{ $labels.slo }} uses up its 30-day budget before its time"
        " ({{ $value | humanizePercentage }} of requests are bad)",
    ),
)
_PROCESSES = (
    Alert(
        "ErrandComponentDown",
        'up{job=~".*errand.*"} == 0',
        "5m",
        "critical",
        "{{ $labels.instance }} of {{ $labels.job }} answers no scrape",
    ),
    Alert(
        "ErrandModelNotLoaded",
        'kube_pod_status_ready{condition="true",pod=~".*errand-inference-.*"} == 0',
        "10m",
        "critical",
        "{{ $labels.pod }} has not been ready for 10 minutes: its model is not loaded",
    ),
    Alert(
        "ErrandVolumeFillsUp",
        'kubelet_volume_stats_available_bytes{persistentvolumeclaim=~".*errand.*"}'
        ' / kubelet_volume_stats_capacity_bytes{persistentvolumeclaim=~".*errand.*"} < 0.1',
        "15m",
        "warning",
        "{{ $labels.persistentvolumeclaim }} has {{ $value | humanizePercentage }} left",
    ),
    Alert(
        "ErrandCertificateExpires",
        'certmanager_certificate_expiration_timestamp_seconds{name=~".*errand.*"} - time() < 7 * 86400'
        ' or probe_ssl_earliest_cert_expiry{job=~".*errand.*"} - time() < 7 * 86400',
        "1h",
        "critical",
        "A certificate expires in {{ $value | humanizeDuration }} and was not renewed",
    ),
)
_SATURATION = (
    Alert(
        "ErrandInferenceQueueLong",
        "sum by (model) (llm_queue_depth) > 32 and on ()"
        " histogram_quantile(0.95, sum by (le) (rate(llm_queue_wait_seconds_bucket[5m]))) > 2",
        "5m",
        "warning",
        "{{ $value }} requests wait for {{ $labels.model }}; one in twenty waits over 2 s",
    ),
    Alert(
        "ErrandCallsInFlightHigh",
        'sum by (method) (rpc_server_in_flight{method!~".*/Watch.*"}) > 200',
        "10m",
        "warning",
        "{{ $value }} calls of {{ $labels.method }} are in flight",
    ),
    Alert(
        "ErrandCallsShed",
        'sum by (method) (rate(rpc_server_requests_total{code="RESOURCE_EXHAUSTED"}[5m]))'
        " / sum by (method) (rate(rpc_server_requests_total[5m])) > 0.05",
        "10m",
        "warning",
        "{{ $labels.method }} refuses {{ $value | humanizePercentage }} of its calls for want of room",
    ),
)
_WORK = (
    Alert(
        "ErrandRunsStuck",
        f"sum(rpc_server_in_flight{{{_RUNS}}}) > 0 and on () (sum(increase(agent_runs_total[15m])) or vector(0)) == 0",
        "5m",
        "critical",
        "{{ $value }} runs are on and none has ended for 15 minutes",
    ),
    Alert(
        "ErrandRunsFail",
        'sum(rate(agent_runs_total{stop_reason=~"INTERNAL|UNAVAILABLE|ERROR_THRESHOLD"}[15m]))'
        " / sum(rate(agent_runs_total[15m])) > 0.1",
        "10m",
        "critical",
        "{{ $value | humanizePercentage }} of runs end by an error",
    ),
    Alert(
        "ErrandDeadLetters",
        'sum by (stop_reason) (increase(agent_runs_total{stop_reason=~"INTERNAL|UNAVAILABLE|INCOMPATIBLE"}[1h])) > 0',
        "0m",
        "info",
        '{{ $value | printf "%.0f" }} runs ended {{ $labels.stop_reason }} in an hour and can be run again',
    ),
    Alert(
        "ErrandIngestionFails",
        'sum(increase(rag_ingestion_attempts_total{outcome="fault"}[30m])) > 5',
        "5m",
        "warning",
        "{{ $value }} attempts to ingest documents failed in 30 minutes",
    ),
    Alert(
        "ErrandRetrievalDegraded",
        'sum(rate(rag_searches_total{degraded="true"}[10m])) / sum(rate(rag_searches_total[10m])) > 0.05',
        "10m",
        "warning",
        "{{ $value | humanizePercentage }} of searches go without vectors",
    ),
    Alert(
        "ErrandToolFails",
        'sum by (tool) (rate(tool_calls_total{status=~"failed|timed_out|error"}[15m]))'
        " / sum by (tool) (rate(tool_calls_total[15m])) > 0.5",
        "15m",
        "warning",
        "{{ $value | humanizePercentage }} of {{ $labels.tool }} calls fail",
    ),
    Alert(
        "ErrandEffectsUnsettled",
        'sum by (tool) (increase(tool_calls_total{status="unsettled"}[1h])) > 0',
        "0m",
        "warning",
        "{{ $value }} calls of {{ $labels.tool }} may or may not have happened and wait for a person",
    ),
)
_DEPENDENCIES = (
    Alert(
        "ErrandQuotaStoreFails",
        "sum(increase(quota_store_failures_total[10m])) > 2",
        "2m",
        "critical",
        'Spending could not be booked or leased {{ $value | printf "%.0f" }} times in 10 minutes',
    ),
    Alert(
        "ErrandModelRequestsFail",
        "sum by (component) (increase(llm_failures_total[15m])) > 15",
        "5m",
        "warning",
        '{{ $value | printf "%.0f" }} requests of {{ $labels.component }} to a model failed in 15 minutes',
    ),
    Alert(
        "ErrandCircuitOpen",
        "sum by (target) (circuits_open) > 0",
        "10m",
        "warning",
        "{{ $value }} circuits of {{ $labels.target }} have let no call through for 10 minutes",
    ),
)
_RECORDS = (
    Alert(
        "ErrandRecordsDropped",
        "sum(increase(gateway_records_dropped_total[15m])) > 0",
        "0m",
        "critical",
        "{{ $value }} usage and audit records were lost in 15 minutes",
    ),
    Alert(
        "ErrandSpansDropped",
        "sum by (job) (increase(telemetry_spans_dropped_total[15m])) > 0",
        "15m",
        "info",
        "{{ $value }} spans were lost in 15 minutes",
    ),
)
GROUPS = {
    "errand-slo": _SLO,
    "errand-processes": _PROCESSES,
    "errand-saturation": _SATURATION,
    "errand-work": _WORK,
    "errand-dependencies": _DEPENDENCIES,
    "errand-records": _RECORDS,
}
ALERTS = tuple(alert for group in GROUPS.values() for alert in group)


def alert_groups() -> list[dict[str, object]]:
    """The groups of a PrometheusRule."""
    return [{"name": name, "rules": [alert.rule() for alert in alerts]} for name, alerts in GROUPS.items()]
