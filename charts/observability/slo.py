"""Service level objectives, and the recording rules that measure them."""

from __future__ import annotations

from dataclasses import dataclass

from errand_common.rpc.spans import FAULTS

WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d", "30d")
_FAULTS = "|".join(sorted(code.name for code in FAULTS))
# Watching lasts as long as the watcher wants: its time says nothing about the service.
_HTTP = 'route!~"/healthz|/readyz|/metrics|.*/events"'


@dataclass(frozen=True, slots=True)
class Objective:
    """What share of requests may be bad in 30 days; `bad` and `all` hold WINDOW for the range."""

    service: str
    slo: str
    target: float
    promise: str
    bad: str
    all: str

    @property
    def budget(self) -> float:
        """The share of requests that may be bad."""
        return round(1 - self.target, 6)


def _availability(service: str, target: float) -> Objective:
    methods = f'method=~"errand[.]{service}[.]v1[.].*"'
    return Objective(
        service,
        "availability",
        target,
        "calls end without a fault of the service",
        f'sum(rate(rpc_server_requests_total{{{methods},code=~"{_FAULTS}"}}[WINDOW]))',
        f"sum(rate(rpc_server_requests_total{{{methods}}}[WINDOW]))",
    )


def _latency(service: str, methods: str, seconds: float, target: float) -> Objective:
    chosen = f'method=~"errand[.]{service}[.]v1[.].*/({methods})"'
    total = f"sum(rate(rpc_server_duration_seconds_count{{{chosen}}}[WINDOW]))"
    good = f'sum(rate(rpc_server_duration_seconds_bucket{{{chosen},le="{seconds}"}}[WINDOW]))'
    promise = f"{methods.replace('|', ', ')} end within {seconds:g} s"
    return Objective(service, "latency", target, promise, f"({total} - {good})", total)


OBJECTIVES = (
    Objective(
        "gateway",
        "availability",
        0.999,
        "requests are answered without a 5xx, but for 501",
        # 501 says that what was asked for is not offered.
        f'sum(rate(http_requests_total{{{_HTTP},status=~"5..",status!="501"}}[WINDOW]))',
        f"sum(rate(http_requests_total{{{_HTTP}}}[WINDOW]))",
    ),
    Objective(
        "gateway",
        "latency",
        0.99,
        "requests but event streams end within 10 s",
        f"(sum(rate(http_request_duration_seconds_count{{{_HTTP}}}[WINDOW]))"
        f' - sum(rate(http_request_duration_seconds_bucket{{{_HTTP},le="10.0"}}[WINDOW])))',
        f"sum(rate(http_request_duration_seconds_count{{{_HTTP}}}[WINDOW]))",
    ),
    _availability("agent", 0.999),
    _latency("agent", "RunAgent|RunAgentStream", 30.0, 0.99),
    _availability("inference", 0.999),
    _latency("inference", "Generate|GenerateStream", 10.0, 0.99),
    _availability("rag", 0.999),
    _latency("rag", "Search|SearchBatch", 1.0, 0.99),
    _availability("tools", 0.999),
    _latency("tools", "ExecuteTool|ExecuteToolStream", 10.0, 0.99),
)


def recording_groups() -> list[dict[str, object]]:
    """`errand:errors:ratio_rate<window>` and `errand:error_budget` of each objective.

    No traffic gives no ratio, and so no alert; traffic without an error gives 0.
    """
    groups: list[dict[str, object]] = [
        {
            "name": f"errand-slo-{window}",
            "interval": "5m" if window in ("1d", "3d", "30d") else "30s",
            "rules": [_ratio(objective, window) for objective in OBJECTIVES],
        }
        for window in WINDOWS
    ]
    budgets = [_budget(objective) for objective in OBJECTIVES]
    return [*groups, {"name": "errand-slo-budgets", "interval": "30s", "rules": budgets}]


def _ratio(objective: Objective, window: str) -> dict[str, object]:
    bad, total = (text.replace("WINDOW", window) for text in (objective.bad, objective.all))
    return {
        "record": f"errand:errors:ratio_rate{window}",
        "expr": f"({bad} or vector(0)) / ({total} > 0)",
        "labels": {"service": objective.service, "slo": objective.slo},
    }


def _budget(objective: Objective) -> dict[str, object]:
    return {
        "record": "errand:error_budget",
        "expr": f"vector({objective.budget})",
        "labels": {"service": objective.service, "slo": objective.slo},
    }


def recorded_series() -> dict[str, frozenset[str]]:
    """The series that the recording rules make, with their labels."""
    names = [f"errand:errors:ratio_rate{window}" for window in WINDOWS] + ["errand:error_budget"]
    return dict.fromkeys(names, frozenset({"service", "slo"}))


def page() -> str:
    """The table of objectives in docs/operations/slo.md."""
    rows = ["| service | objective | of 30 days | promise |", "|---|---|---|---|"]
    rows += [f"| {item.service} | {item.slo} | {item.target:.1%} | {item.promise} |" for item in OBJECTIVES]
    return "\n".join(rows) + "\n"
