"""Grafana dashboards: each service's golden signals and its own figures, the objectives, the cost of tenants."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from charts.observability.table import SERVICES

_WIDTH, _HEIGHT = 8, 8
# A table's figures are of several kinds.
COLUMN_UNITS = {
    "cost": "currencyUSD",
    "cost_today": "currencyUSD",
    "usual_cost": "currencyUSD",
    "seconds": "s",
}
# A budget that is overdrawn is below zero.
_RANGE: dict[str, dict[str, Any]] = {"bargauge": {"max": 1}}
_PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}
_POSTGRES = {"type": "grafana-postgresql-datasource", "uid": "${database}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel of queries and their legends; `unit` is Grafana's name of it."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"
    sql: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard; its uid is `errand-` and the name."""

    name: str
    title: str
    panels: tuple[Panel, ...]
    refresh: str = "30s"
    since: str = "now-6h"


def _rate(title: str, expression: str, legend: str = "", unit: str = "reqps") -> Panel:
    return Panel(title, unit, ((expression, legend),))


def _quantiles(title: str, histogram: str, labels: str = "", unit: str = "s") -> Panel:
    buckets = f"sum by (le) (rate({histogram}_bucket{labels}[$__rate_interval]))"
    return Panel(
        title,
        unit,
        tuple((f"histogram_quantile({share}, {buckets})", f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)),
    )


def _p95(title: str, histogram: str, label: str, unit: str = "s") -> Panel:
    buckets = f"sum by (le, {label}) (rate({histogram}_bucket[$__rate_interval]))"
    return Panel(title, unit, ((f"histogram_quantile(0.95, {buckets})", f"{{{{{label}}}}}"),))


def _share(title: str, counter: str, chosen: str, legend: str, of: str = "") -> Panel:
    """How much of a counter is the chosen part: none where nothing was chosen yet, and so no series is."""
    labels = f"{of},{chosen}" if of else chosen
    part = f"sum(rate({counter}{{{labels}}}[$__rate_interval]))"
    whole = f"sum(rate({counter}{f'{{{of}}}' if of else ''}[$__rate_interval]))"
    return Panel(title, "percentunit", ((f"({part} or vector(0)) / {whole}", legend),))


def _golden(service: str) -> tuple[Panel, ...]:
    """Traffic, errors, latency and saturation of a service's RPCs."""
    calls = f'{{method=~"errand[.]{service}[.]v1[.].*"}}'
    bad = f'{{method=~"errand[.]{service}[.]v1[.].*",code!="OK"}}'
    lasting = f'{{method=~"errand[.]{service}[.]v1[.].*",method!~".*/Watch.*"}}'
    return (
        _rate("Calls", f"sum by (method) (rate(rpc_server_requests_total{calls}[$__rate_interval]))", "{{method}}"),
        _rate("Calls that fail", f"sum by (code) (rate(rpc_server_requests_total{bad}[$__rate_interval]))", "{{code}}"),
        _quantiles("Time of a call", "rpc_server_duration_seconds", lasting),
        _rate("Calls in flight", f"sum by (method) (rpc_server_in_flight{calls})", "{{method}}", "short"),
    )


_HTTP = 'route!~"/healthz|/readyz|/metrics"'
_GATEWAY = (
    _rate("Requests", f"sum by (route) (rate(http_requests_total{{{_HTTP}}}[$__rate_interval]))", "{{route}}"),
    _rate(
        "Answers by status", f"sum by (status) (rate(http_requests_total{{{_HTTP}}}[$__rate_interval]))", "{{status}}"
    ),
    _share("Share of 5xx", "http_requests_total", 'status=~"5.."', "5xx", of=_HTTP),
    _quantiles(
        "Time of a request, event streams left out",
        "http_request_duration_seconds",
        '{route!~"/healthz|/readyz|/metrics|.*/events"}',
    ),
    Panel(
        "Rate limit",
        "reqps",
        (
            ("sum(rate(rate_limit_allowed_total[$__rate_interval]))", "let pass"),
            ("sum(rate(rate_limit_hits_total[$__rate_interval]))", "refused"),
        ),
    ),
    _rate(
        "Requests held against quotas",
        "sum by (result) (rate(quota_reservations_total[$__rate_interval]))",
        "{{result}}",
    ),
    _rate("Quota store, failures", "sum(increase(quota_store_failures_total[$__rate_interval]))", "failures", "short"),
    _rate("Records dropped", "sum(increase(gateway_records_dropped_total[$__rate_interval]))", "records", "short"),
)
_AGENT = (
    _rate("Runs that ended", "sum by (stop_reason) (rate(agent_runs_total[$__rate_interval]))", "{{stop_reason}}"),
    _rate(
        "Steps of a run, mean",
        "sum(rate(agent_steps_per_run_sum[$__rate_interval])) / sum(rate(agent_steps_per_run_count[$__rate_interval]))",
        "steps",
        "short",
    ),
    _p95("Time of a step, p95", "node_latency_ms", "node", "ms"),
    _rate("Retrievals", "sum(rate(context_retrievals_total[$__rate_interval]))", "retrievals"),
    _rate(
        "Steps by agent and kind",
        "sum by (agent, node) (rate(requests_total[$__rate_interval]))",
        "{{agent}} {{node}}",
    ),
    _rate(
        "Questions that another agent took",
        "sum by (from_agent, to_agent) (increase(routing_fallbacks_total[$__rate_interval]))",
        "{{from_agent}} to {{to_agent}}",
        "short",
    ),
    Panel(
        "Tokens of a context, mean",
        "short",
        tuple(
            (
                f"sum(rate({name}_sum[$__rate_interval])) / sum(rate({name}_count[$__rate_interval]))",
                legend,
            )
            for name, legend in (("token_budget_used", "used"), ("token_budget_remaining", "remaining"))
        ),
    ),
    Panel(
        "Contexts that did not fit, briefs written",
        "short",
        (
            ("sum(increase(token_budget_overflows_total[$__rate_interval]))", "overflows"),
            ("sum(increase(token_budget_summarizations_total[$__rate_interval]))", "briefs by a model"),
        ),
    ),
    _rate("Messages and briefs stored", "sum(rate(context_storage_total[$__rate_interval]))", "stored"),
    _rate("Workflows that have not ended", "max by (status) (agent_workflows)", "{{status}}", "short"),
    Panel(
        "Requests of facts",
        "reqps",
        (
            ("sum by (status) (rate(facts_insert_requests_total[$__rate_interval]))", "insert {{status}}"),
            ("sum by (status) (rate(facts_query_requests_total[$__rate_interval]))", "query {{status}}"),
        ),
    ),
    _p95("Time of a request of facts, p95", "facts_request_duration_seconds", "endpoint"),
    Panel(
        "Facts known already, expired, erased",
        "reqps",
        tuple(
            (f"sum(rate(facts_{what}_total[$__rate_interval]))", what) for what in ("duplicates", "expired", "erased")
        ),
    ),
    _rate("Citations removed", "sum(rate(agent_citations_removed_total[$__rate_interval]))", "citations"),
)
_INFERENCE = (
    _rate("Tokens", "sum by (direction) (rate(llm_tokens_total[$__rate_interval]))", "{{direction}}", "short"),
    _quantiles("Time to first token", "llm_first_token_seconds"),
    _quantiles("Time of a turn", "llm_generation_seconds"),
    _quantiles("Wait for a place in the batch", "llm_queue_wait_seconds"),
    _rate("Requests that wait", "sum by (model) (llm_queue_depth)", "{{model}}", "short"),
    _rate("Requests in the batch", "sum by (model) (llm_batch_size)", "{{model}}", "short"),
    _rate("Turns by finish", "sum by (finish) (rate(llm_generations_total[$__rate_interval]))", "{{finish}}"),
    _share("Grammar cache, share of hits", "llm_grammars_total", 'result="hit"', "hits"),
    _rate(
        "Prompt tokens from the prefix cache, share",
        "sum(rate(llm_cached_tokens_total[$__rate_interval]))"
        ' / sum(rate(llm_tokens_total{direction="prompt"}[$__rate_interval]))',
        "cached",
        "percentunit",
    ),
    _rate(
        "Attempts that a model failed",
        "sum by (model, reason) (increase(llm_failed_attempts_total[$__rate_interval]))",
        "{{model}} {{reason}}",
        "short",
    ),
    _rate("Calls that break their schema", "sum(rate(llm_rejected_calls_total[$__rate_interval]))", "calls"),
    _rate("Texts embedded", "sum(rate(llm_embedded_texts_total[$__rate_interval]))", "texts"),
)
_RAG = (
    _rate("Searches", "sum by (mode) (rate(rag_searches_total[$__rate_interval]))", "{{mode}}"),
    _share("Searches without vectors", "rag_searches_total", 'degraded="true"', "degraded"),
    _quantiles("Time of a search", "rag_search_duration_seconds"),
    _share("Query cache, share of hits", "rag_query_cache_total", 'result="hit"', "hits"),
    _rate("Ingestions", "sum by (outcome) (rate(rag_ingestion_attempts_total[$__rate_interval]))", "{{outcome}}"),
    _quantiles("Time of an ingestion", "rag_ingestion_duration_seconds"),
)
_TOOLS = (
    _rate("Tool calls", "sum by (tool) (rate(tool_calls_total[$__rate_interval]))", "{{tool}}"),
    _rate("Tool calls by end", "sum by (status) (rate(tool_calls_total[$__rate_interval]))", "{{status}}"),
    _p95("Time of a tool call, p95", "tool_call_duration_seconds", "tool"),
    _rate(
        "Effects that wait for a person",
        'sum by (tool) (increase(tool_calls_total{status="unsettled"}[$__rate_interval]))',
        "{{tool}}",
        "short",
    ),
)
_OVERVIEW = (
    Panel("Processes that answer", "short", (('sum by (job) (up{job=~".*errand.*"})', "{{job}}"),), "stat"),
    Panel(
        "Budget left of 30 days",
        "percentunit",
        (("1 - errand:errors:ratio_rate30d / on (service, slo) errand:error_budget", "{{service}} {{slo}}"),),
        "bargauge",
    ),
    _rate(
        "Calls by service",
        'sum by (service_name) (label_replace(rate(rpc_server_requests_total[$__rate_interval]), "service_name", "$1",'
        ' "method", "errand[.]([a-z]+)[.].*"))',
        "{{service_name}}",
    ),
    *(_GATEWAY[:4]),
    _AGENT[0],
    _INFERENCE[0],
    _INFERENCE[4],
    _TOOLS[1],
    _rate(
        "Requests to models that fail",
        "sum by (component) (rate(llm_failures_total[$__rate_interval]))",
        "{{component}}",
    ),
    _rate("Circuits open", "sum by (target) (circuits_open)", "{{target}}", "short"),
    _rate(
        "Spans dropped", "sum by (job) (increase(telemetry_spans_dropped_total[$__rate_interval]))", "{{job}}", "short"
    ),
    Panel(
        "Traces a second",
        "reqps",
        (
            ("sum by (told) (rate(telemetry_traces_total[$__rate_interval]))", "{{told}}"),
            ("sum by (reason) (rate(telemetry_traces_told_late_total[$__rate_interval]))", "told late: {{reason}}"),
        ),
    ),
)
_SLO = (
    Panel(
        "Budget left of 30 days",
        "percentunit",
        (("1 - errand:errors:ratio_rate30d / on (service, slo) errand:error_budget", "{{service}} {{slo}}"),),
        "bargauge",
    ),
    *(
        Panel(
            f"Burn over {window} (1 uses the budget up in 30 days)",
            "short",
            ((f"errand:errors:ratio_rate{window} / on (service, slo) errand:error_budget", "{{service}} {{slo}}"),),
        )
        for window in ("5m", "1h", "6h", "1d", "3d")
    ),
)


def _usage(title: str, unit: str, columns: str, by: str, kind: str = "table") -> Panel:
    """A query of the gateway's usage; its columns after the first ones are figures."""
    during = "created_at >= $__timeFrom() AND created_at < $__timeTo()"
    query = f"SELECT {columns} FROM gateway.usage WHERE {during} {by}"  # noqa: S608 - our own constants
    return Panel(title, unit, ((query, ""),), kind, sql=True)


# Today beside the days of the four weeks before on which the tenant worked, at least seven of them: more than three
# standard deviations over their mean, and half as much again, is out of the usual.
_UNUSUAL = """
WITH days AS (
  SELECT tenant_id, date_trunc('day', created_at) AS day,
         sum(cost_micros) / 1000000.0 AS cost, sum(prompt_tokens + completion_tokens) AS tokens
  FROM gateway.usage WHERE created_at >= date_trunc('day', now()) - interval '28 days' GROUP BY 1, 2
), usual AS (
  SELECT tenant_id, avg(cost) AS cost, avg(tokens) AS tokens,
         greatest(3 * stddev_samp(cost), 0.5 * avg(cost)) AS cost_margin,
         greatest(3 * stddev_samp(tokens), 0.5 * avg(tokens)) AS tokens_margin
  FROM days WHERE day < date_trunc('day', now()) GROUP BY 1 HAVING count(*) >= 7
)
SELECT days.tenant_id, days.cost AS cost_today, usual.cost AS usual_cost,
       days.tokens AS tokens_today, usual.tokens AS usual_tokens
FROM days JOIN usual USING (tenant_id)
WHERE days.day = date_trunc('day', now())
  AND (days.cost > usual.cost + usual.cost_margin OR days.tokens > usual.tokens + usual.tokens_margin)
ORDER BY days.cost - usual.cost DESC, days.tokens - usual.tokens DESC LIMIT 100
""".strip()
_COST_USD = "sum(cost_micros) / 1000000.0 AS cost"
_COST = (
    Panel("Spend out of the usual range today", "short", ((_UNUSUAL, ""),), "table", sql=True),
    _usage(
        "Cost by tenant",
        "short",
        f"tenant_id, {_COST_USD}, count(*) AS requests",
        "GROUP BY tenant_id ORDER BY cost DESC LIMIT 100",
    ),
    _usage(
        "Tokens by tenant",
        "short",
        "tenant_id, sum(prompt_tokens) AS prompt, sum(completion_tokens) AS completion, sum(cached_tokens) AS cached",
        "GROUP BY tenant_id ORDER BY prompt DESC LIMIT 100",
    ),
    _usage(
        "Cost by tenant and model",
        "short",
        f"tenant_id, coalesce(nullif(model, ''), 'of agents') AS model, {_COST_USD},"
        " sum(prompt_tokens + completion_tokens) AS tokens",
        "GROUP BY 1, 2 ORDER BY cost DESC LIMIT 100",
    ),
    _usage(
        "Seconds of work by tenant and agent",
        "short",
        "tenant_id, coalesce(nullif(agent, ''), 'without') AS agent, sum(duration_ms) / 1000 AS seconds,"
        " count(*) AS requests",
        "GROUP BY 1, 2 ORDER BY seconds DESC LIMIT 100",
    ),
    _usage(
        "Cost a day by tenant",
        "currencyUSD",
        f"date_trunc('day', created_at) AS time, tenant_id AS metric, {_COST_USD}",
        "GROUP BY 1, 2 ORDER BY 1",
        "timeseries",
    ),
    _usage(
        "Tokens an hour by tenant",
        "short",
        "date_trunc('hour', created_at) AS time, tenant_id AS metric, sum(prompt_tokens + completion_tokens) AS tokens",
        "GROUP BY 1, 2 ORDER BY 1",
        "timeseries",
    ),
)
_OWN = {"agent": _AGENT, "inference": _INFERENCE, "rag": _RAG, "tools": _TOOLS}
DASHBOARDS = (
    Dashboard("overview", "Errand: overview", _OVERVIEW),
    Dashboard("gateway", "Errand: gateway", _GATEWAY),
    *(Dashboard(name, f"Errand: {name}", _golden(name) + _OWN[name]) for name in SERVICES if name != "gateway"),
    Dashboard("slo", "Errand: objectives and budgets", _SLO, refresh="5m", since="now-7d"),
    Dashboard("cost", "Errand: cost per tenant", _COST, refresh="5m", since="now-30d"),
)


def document(dashboard: Dashboard) -> str:
    """The dashboard as Grafana imports it."""
    panels = [_panel(panel, number) for number, panel in enumerate(dashboard.panels)]
    sources = [_source("datasource", "Prometheus", "prometheus")]
    if any(panel.sql for panel in dashboard.panels):
        sources = [_source("database", "Postgres", "grafana-postgresql-datasource")]
    whole = {
        "uid": f"errand-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["errand"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": dashboard.refresh,
        "time": {"from": dashboard.since, "to": "now"},
        "timezone": "",
        "templating": {"list": sources},
        "links": [{"type": "dashboards", "tags": ["errand"], "title": "Errand", "asDropdown": True, "keepTime": True}],
        "panels": panels,
    }
    return json.dumps(whole, indent=1) + "\n"


def _source(name: str, label: str, kind: str) -> dict[str, Any]:
    return {"name": name, "label": label, "type": "datasource", "query": kind, "hide": 0, "refresh": 1}


def _panel(panel: Panel, number: int) -> dict[str, Any]:
    source = _POSTGRES if panel.sql else _PROMETHEUS
    per_row = 24 // _WIDTH
    return {
        "id": number + 1,
        "type": panel.kind,
        "title": panel.title,
        "datasource": source,
        "gridPos": {"x": number % per_row * _WIDTH, "y": number // per_row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {
            "defaults": {"unit": panel.unit, **_RANGE.get(panel.kind, {"min": 0})},
            "overrides": _column_units() if panel.kind == "table" else [],
        },
        "options": {},
        "targets": [_target(panel, query, legend, index) for index, (query, legend) in enumerate(panel.queries)],
    }


def _column_units() -> list[dict[str, Any]]:
    return [
        {"matcher": {"id": "byName", "options": column}, "properties": [{"id": "unit", "value": unit}]}
        for column, unit in COLUMN_UNITS.items()
    ]


def _target(panel: Panel, query: str, legend: str, index: int) -> dict[str, Any]:
    name = "ABCDEFGH"[index]
    if panel.sql:
        kind = "time_series" if panel.kind == "timeseries" else "table"
        return {"refId": name, "datasource": _POSTGRES, "rawQuery": True, "rawSql": query, "format": kind}
    return {"refId": name, "datasource": _PROMETHEUS, "expr": query, "legendFormat": legend, "range": True}
