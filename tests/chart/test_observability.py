"""What an operator watches the suite by: scrapes, rules, dashboards, and where spans go."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from errand_gateway.transport.routes.agents import NewAgent

from tests.chart.rendering import CHART, SERVICES, environment, find, refused, render, select

BASE = "https://git.example.com/errand/blob/main/"


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PrometheusRule"])
def test_nothing_for_operators_that_are_not_there(kind: str) -> None:
    assert not select(render(), kind)
    assert not [m for m in select(render(), "ConfigMap") if "dashboard" in m["metadata"]["name"]]


def test_a_scrape_finds_the_metrics_port_of_every_service() -> None:
    manifests = render(serviceMonitor={"enabled": True, "labels": {"release": "prometheus"}})
    monitor = find(manifests, "ServiceMonitor", "")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    service = find(manifests, "Service", "metrics")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    for name in SERVICES:
        pod = next(
            m["spec"]["template"]
            for m in manifests
            if m["kind"] in ("Deployment", "StatefulSet") and m["metadata"]["name"] == f"shop-errand-{name}"
        )
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        assert {"name": "metrics", "containerPort": 9090} in pod["spec"]["containers"][0]["ports"]
    # The alerts tell jobs by this part of their name.
    assert "errand" in service["metadata"]["name"]


def _rules(**values: Any) -> list[dict[str, Any]]:
    manifests = render(prometheusRule={"enabled": True, **values})
    return [rule for m in select(manifests, "PrometheusRule") for g in m["spec"]["groups"] for rule in g["rules"]]


def test_every_rule_that_is_made_is_installed_as_it_is() -> None:
    made = [
        rule
        for name in ("alerts", "recording-rules")
        for group in yaml.safe_load((CHART / "files" / f"{name}.yaml").read_text())["groups"]
        for rule in group["rules"]
    ]
    assert sorted(made, key=json.dumps) == sorted(_rules(), key=json.dumps)


def test_alerts_lead_to_runbooks_where_the_operator_keeps_them() -> None:
    links = [rule["annotations"]["runbook_url"] for rule in _rules(runbookBase=BASE) if "alert" in rule]
    assert links
    for link in links:
        assert link.startswith(f"{BASE}docs/operations/runbooks/")
        assert (CHART.parents[1] / link.removeprefix(BASE)).is_file()
    assert "prometheusRule.runbookBase" in refused(prometheusRule__runbookBase="wiki")


def test_dashboards_come_as_the_sidecar_expects_them() -> None:
    manifests = render(dashboards={"enabled": True, "annotations": {"grafana_folder": "Errand"}})
    boards = [m for m in select(manifests, "ConfigMap") if "-dashboard-" in m["metadata"]["name"]]
    assert len(boards) == len(list((CHART / "files" / "dashboards").glob("*.json")))
    for board in boards:
        assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert board["metadata"]["annotations"] == {"grafana_folder": "Errand"}
        (name, content) = next(iter(board["data"].items()))
        assert json.loads(content)["uid"] == name.removesuffix(".json")


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_sends_runs_to_mlflow_and_all_spans_to_a_collector(name: str) -> None:
    prefix = f"ERRAND_{name.upper()}_"
    own = environment(render(telemetry={"otlpEndpoint": "http://collector:4318/v1/traces"}), name)
    assert own[f"{prefix}MLFLOW_ENDPOINT"] == "http://shop-errand-mlflow:5000/v1/traces"
    assert json.loads(own[f"{prefix}MLFLOW_HEADERS"]) == {"x-mlflow-experiment-id": "0"}
    assert own[f"{prefix}OTLP_ENDPOINT"] == "http://collector:4318/v1/traces"
    assert f"{prefix}OTLP_HEADERS" not in own


def test_headers_with_credentials_come_from_secrets() -> None:
    external = {"kind": "external", "url": "http://mlflow.ml:5000", "headersSecret": "mlflow-access"}
    own = environment(render(mlflow=external, telemetry__headersSecret="collector-access"), "agent")
    assert own["ERRAND_AGENT_MLFLOW_HEADERS"] == {"secretKeyRef": {"name": "mlflow-access", "key": "headers"}}
    assert own["ERRAND_AGENT_OTLP_HEADERS"] == {"secretKeyRef": {"name": "collector-access", "key": "headers"}}


def test_a_collector_without_its_path_is_refused() -> None:
    assert "telemetry.otlpEndpoint" in refused(telemetry__otlpEndpoint="http://collector:4318")


COLLECTOR: dict[str, Any] = {"otlpEndpoint": "http://tempo:4318/v1/traces", "collector": {"enabled": True}}


def test_a_collector_of_the_release_stands_in_between() -> None:
    manifests = render(telemetry=COLLECTOR)
    assert (
        environment(manifests, "agent")["ERRAND_AGENT_OTLP_ENDPOINT"] == "http://shop-errand-collector:4318/v1/traces"
    )
    config = yaml.safe_load(find(manifests, "ConfigMap", "collector")["data"]["config.yaml"])
    assert config["exporters"]["otlphttp"]["traces_endpoint"] == "http://tempo:4318/v1/traces"
    # What the pipeline names is there, and every run that failed is kept.
    pipeline = config["service"]["pipelines"]["traces"]
    for kind in ("receivers", "processors", "exporters"):
        assert set(pipeline[kind]) <= set(config[kind])
    policies = {policy["name"]: policy for policy in config["processors"]["tail_sampling"]["policies"]}
    assert policies["failed"]["status_code"]["status_codes"] == ["ERROR"]
    # A run that is judged before its end may fail, or be slow, afterwards.
    longest = NewAgent.model_fields["max_seconds"].default
    assert int(config["processors"]["tail_sampling"]["decision_wait"].removesuffix("s")) > longest
    # Services reach it, and it alone reaches out.
    egress = {name: find(manifests, "NetworkPolicy", name)["spec"]["egress"] for name in ("agent", "collector")}
    assert any(rule["ports"] == [{"port": 4318}] for rule in egress["agent"] if "ports" in rule)
    assert not [peer for rule in egress["agent"] for peer in rule["to"] if "ipBlock" in peer]
    assert [peer for rule in egress["collector"] for peer in rule["to"] if "ipBlock" in peer]
    assert not select(render(), "Deployment", "shop-errand-collector")


def test_credentials_of_a_collector_are_where_spans_leave() -> None:
    manifests = render(telemetry={**COLLECTOR, "headersSecret": "tempo-access"})
    assert "ERRAND_AGENT_OTLP_HEADERS" not in environment(manifests, "agent")
    spec = find(manifests, "Deployment", "collector")["spec"]["template"]["spec"]
    assert "tempo-access" in [volume.get("secret", {}).get("secretName") for volume in spec["volumes"]]
    assert "telemetry.otlpEndpoint" in refused(telemetry={"collector": {"enabled": True}})
