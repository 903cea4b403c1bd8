"""What adds replicas: CPU, and each service's own load by prometheus-adapter or KEDA."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.observability.table import exported_series
from tests.chart.rendering import CHART, SERVICES, find, refused, render, select
from tests.observability.promtool import promtool

ADAPTER = yaml.safe_load((CHART / "files" / "prometheus-adapter-values.yaml").read_text())["rules"]["custom"]
PROMETHEUS = "http://prometheus.monitoring:9090"


def _scaled(**more: Any) -> list[dict[str, Any]]:
    values = {f"{name}__autoscaling": {"enabled": True, "load": 4} for name in SERVICES}
    return render(**values, **more)


@pytest.mark.parametrize("name", SERVICES)
def test_the_adapter_serves_each_metric_that_an_autoscaler_asks_for(name: str) -> None:
    metrics = find(_scaled(), "HorizontalPodAutoscaler", name)["spec"]["metrics"]
    assert metrics[0]["resource"]["name"] == "cpu"
    (own,) = [metric["pods"] for metric in metrics if metric["type"] == "Pods"]
    assert own["target"] == {"type": "AverageValue", "averageValue": "4"}
    assert [rule for rule in ADAPTER if rule["name"]["as"] == own["metric"]["name"]]


def test_load_is_measured_by_series_that_the_services_export() -> None:
    exported = exported_series()
    for rule in ADAPTER:
        series = rule["seriesQuery"].partition("{")[0]
        assert series in exported
        asked = set(re.findall(r"(\w+)!?[=~]", rule["metricsQuery"].partition("LabelMatchers>>")[2]))
        assert asked <= exported[series]


def test_without_a_load_cpu_alone_decides() -> None:
    metrics = find(render("standard"), "HorizontalPodAutoscaler", "agent")["spec"]["metrics"]
    assert [metric["type"] for metric in metrics] == ["Resource"]


def test_keda_asks_prometheus_the_same(tmp_path: Path) -> None:
    manifests = _scaled(keda={"enabled": True, "prometheus": PROMETHEUS})
    assert not select(manifests, "HorizontalPodAutoscaler")
    queries = {}
    for name in SERVICES:
        spec = find(manifests, "ScaledObject", name)["spec"]
        kind = "StatefulSet" if name == "agent" else "Deployment"
        assert find(manifests, kind, spec["scaleTargetRef"]["name"].removeprefix("shop-errand-"))
        triggers = {trigger["type"]: trigger["metadata"] for trigger in spec["triggers"]}
        assert triggers["cpu"] == {"value": "70"}
        assert triggers["prometheus"]["serverAddress"] == PROMETHEUS
        queries[name] = triggers["prometheus"]["query"]
        assert f'namespace="team",pod=~"shop-errand-{name}-.*"' in queries[name]
    rules = [{"record": f"load:{name}", "expr": query} for name, query in queries.items()]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "loads", "rules": rules}]}))
    checked = promtool("check", "rules", file)
    assert checked.returncode == 0, checked.stderr
    # The same expression as the adapter's, but for how each of them names the pods.
    own = {re.sub(r"namespace=.*?,pod=~.*?,", "", query) for query in queries.values()}
    adapted = {
        rule["metricsQuery"]
        .replace("<<.Series>>", rule["seriesQuery"].partition("{")[0])
        .replace("<<.LabelMatchers>>,", "")
        .replace(" by (<<.GroupBy>>)", "")
        for rule in ADAPTER
    }
    assert own == adapted


def test_what_keda_cannot_do_is_said() -> None:
    scaling = {"enabled": True, "load": 4}
    assert "keda.prometheus: is empty" in refused(keda={"enabled": True}, agent__autoscaling=scaling)
    more = {"enabled": True, "metrics": [{"type": "External"}]}
    assert "agent.autoscaling.metrics" in refused(
        keda={"enabled": True, "prometheus": PROMETHEUS}, agent__autoscaling=more
    )
