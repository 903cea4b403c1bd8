"""What the five services are told, and how they are run."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from errand_common.settings import ServiceSettings, load_settings

from tests.chart.rendering import SERVICES, environment, find, refused, render, select, workload

CLASSES = {name: f"{name.capitalize()}Settings" for name in SERVICES}


def _settings_class(name: str) -> type[ServiceSettings]:
    found: type[ServiceSettings] = getattr(importlib.import_module(f"errand_{name}.settings"), CLASSES[name])
    return found


@pytest.mark.parametrize("profile", ["minimal", "standard", "ha", "gpu", "airgapped"])
@pytest.mark.parametrize("name", SERVICES)
def test_a_service_takes_all_that_it_is_told(name: str, profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "DATABASE_URL": "postgresql+asyncpg://u:p@h/d",
        "BOOTSTRAP_ADMIN_KEY": "errand_abcdefgh_0123456789abcdef0123",
        "RATE_LIMIT_STORAGE": "valkey://:p@h:6379/0",
        "EMBEDDING_CACHE_URL": "valkey://:p@h:6379/0",
        "SECRET_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    }
    for variable, value in environment(render(profile), name).items():
        if isinstance(value, str):
            monkeypatch.setenv(variable, value)
        else:
            monkeypatch.setenv(variable, secrets.get(variable.removeprefix(f"ERRAND_{name.upper()}_"), "given"))
    settings = load_settings(_settings_class(name))
    assert settings.host == "0.0.0.0"
    assert settings.metrics_port == 9090


def test_settings_become_variables_that_read_as_they_were_written() -> None:
    manifests = render(
        gateway__settings={"rate_limit": "5/second", "heartbeat_seconds": 2.5},
        rag__settings={"max_document_characters": 20_000_000},
        tools__settings={"http_allow_list": ["a.example", "b.example"], "http_ports": [80, 8443]},
    )
    assert environment(manifests, "gateway")["ERRAND_GATEWAY_RATE_LIMIT"] == "5/second"
    assert environment(manifests, "gateway")["ERRAND_GATEWAY_HEARTBEAT_SECONDS"] == "2.5"
    assert environment(manifests, "rag")["ERRAND_RAG_MAX_DOCUMENT_CHARACTERS"] == "20000000"
    assert environment(manifests, "tools")["ERRAND_TOOLS_HTTP_ALLOW_LIST"] == "a.example,b.example"
    assert environment(manifests, "tools")["ERRAND_TOOLS_HTTP_PORTS"] == "80,8443"


LISTS: dict[str, dict[str, Any]] = {
    "gateway": {
        "trusted_proxies": ["10.0.0.0/8"],
        "cors_origins": ["https://a.example", "https://b.example"],
        "external_issuers": [
            {
                "name": "company",
                "issuer": "https://login.example.com",
                "jwks": "https://login.example.com/keys",
                "audience": "errand",
                "tenant_id": "default",
                "role_map": {"staff": "user"},
            }
        ],
    },
    "tools": {"http_ports": [443, 8443], "http_private_networks": ["10.20.0.0/16"]},
}


@pytest.mark.parametrize("name", LISTS)
def test_a_service_reads_lists_and_objects_as_they_were_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = render(**{f"{name}__settings": LISTS[name]})
    for variable, value in environment(values, name).items():
        if isinstance(value, str):
            monkeypatch.setenv(variable, value)
    settings = load_settings(_settings_class(name)).model_dump(mode="json")
    for setting, given in LISTS[name].items():
        read = settings[setting]
        if setting == "external_issuers":
            assert given[0].items() <= read[0].items()
        else:
            assert [str(part) for part in read] == [str(part) for part in given]


def test_what_nobody_may_read_comes_from_secrets() -> None:
    secret = {"provider_keys": {"secret": "providers", "key": "json"}}
    own = environment(render(inference__secretSettings=secret), "inference")
    assert own["ERRAND_INFERENCE_PROVIDER_KEYS"] == {"secretKeyRef": {"name": "providers", "key": "json"}}
    assert "inference.settings" in refused(inference__settings={"provider_keys": {"openai": "canary"}})
    assert "inference.secretSettings" in refused(inference__secretSettings={"engine": {"secret": "x", "key": "y"}})


def test_tools_can_keep_secrets_on_postgres() -> None:
    own = environment(render(), "tools")["ERRAND_TOOLS_SECRET_KEYS"]
    assert own["secretKeyRef"]["key"] == "seal-key"
    # On SQLite the key is a file beside the database.
    assert "ERRAND_TOOLS_SECRET_KEYS" not in environment(render("minimal"), "tools")
    mine = {"secret_keys": {"secret": "seals", "key": "keys"}}
    own = environment(render(tools__secretSettings=mine), "tools")["ERRAND_TOOLS_SECRET_KEYS"]
    assert own == {"secretKeyRef": {"name": "seals", "key": "keys"}}


def test_an_unknown_key_inside_an_object_is_refused() -> None:
    issuer = {**LISTS["gateway"]["external_issuers"][0], "tennant": "x"}
    assert "external_issuers" in refused(gateway__settings={"external_issuers": [issuer]})


def test_targets_are_headless_services_that_exist() -> None:
    manifests = render()
    for name in SERVICES:
        for variable, value in environment(manifests, name).items():
            if variable.endswith("_TARGET"):
                assert isinstance(value, str)
                host, _, port = value.removeprefix("dns:///").partition(":")
                service = find(manifests, "Service", host.split(".")[0].removeprefix("shop-errand-"))
                assert service["spec"]["clusterIP"] == "None"
                assert service["spec"]["ports"][0]["port"] == int(port)
                assert host.split(".")[1:] == ["team", "svc", "cluster", "local"]


def test_probes_ask_grpc_health_or_http() -> None:
    for kind, probe in (
        ("grpc", {"grpc": {"port": 50052}}),
        ("http", {"httpGet": {"path": "/readyz", "port": "metrics"}}),
    ):
        container = workload(render(defaults__probes=kind), "inference")["spec"]["template"]["spec"]["containers"][0]
        assert probe.items() <= container["readinessProbe"].items()
        assert probe.items() <= container["startupProbe"].items()


def test_one_service_that_is_away_takes_no_gateway_out() -> None:
    container = workload(render(), "gateway")["spec"]["template"]["spec"]["containers"][0]
    assert container["readinessProbe"]["httpGet"]["path"] == "/healthz"


def test_a_pod_has_time_to_drain() -> None:
    spec = workload(render(defaults__drainSeconds=60, defaults__preStopSeconds=7), "agent")["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] > 60 + 7
    assert environment(render(defaults__drainSeconds=60), "agent")["ERRAND_AGENT_DRAIN_SECONDS"] == "60"


@pytest.mark.parametrize("name", SERVICES)
def test_replicas_are_spread_over_nodes_and_zones(name: str) -> None:
    template = workload(render("ha"), name)["spec"]["template"]
    rules = template["spec"]["topologySpreadConstraints"]
    assert [rule["topologyKey"] for rule in rules] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    for rule in rules:
        # A rule that matches no pod of its own spreads nothing.
        assert rule["labelSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


def test_a_new_pod_is_ready_before_an_old_one_goes_unless_files_belong_to_one() -> None:
    rolling = workload(render(), "gateway")["spec"]["strategy"]
    assert rolling["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert workload(render("minimal"), "gateway")["spec"]["strategy"] == {"type": "Recreate"}


def test_sqlite_keeps_its_files_and_postgres_needs_none() -> None:
    minimal, standard = render("minimal"), render("standard")
    assert workload(minimal, "agent")["spec"]["volumeClaimTemplates"]
    assert "volumeClaimTemplates" not in workload(standard, "agent")["spec"]
    claims = {claim["metadata"]["name"] for claim in select(standard, "PersistentVolumeClaim")}
    assert claims == {"shop-errand-mlflow", "shop-errand-backup"}


@pytest.mark.parametrize("service", ["gateway", "agent", "rag", "tools"])
def test_sqlite_does_not_scale(service: str) -> None:
    assert f"{service}.replicas: SQLite has one writer" in refused("minimal", **{f"{service}__replicas": 2})
    assert f"{service}.replicas: SQLite has one writer" in refused(
        "minimal", **{f"{service}__autoscaling__enabled": True}
    )


def test_scaling_and_budgets_only_where_asked_for() -> None:
    assert not select(render(), "HorizontalPodAutoscaler")
    assert not select(render(), "PodDisruptionBudget")
    standard = render("standard")
    assert len(select(standard, "HorizontalPodAutoscaler")) == 5
    assert len(select(standard, "PodDisruptionBudget")) == 5
    for scaler in select(standard, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        assert "replicas" not in find(standard, target["kind"], target["name"].removeprefix("shop-errand-"))["spec"]


@pytest.mark.parametrize("name", ["gateway", "inference", "rag", "tools"])
def test_a_canary_takes_its_share_of_the_same_service(name: str) -> None:
    manifests = render(**{f"{name}__replicas": 9, f"{name}__canary": {"replicas": 1, "tag": "0.2.0"}})
    canary, stable = find(manifests, "Deployment", f"{name}-canary"), workload(manifests, name)
    assert canary["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":0.2.0")
    service = find(manifests, "Service", name if name == "gateway" else f"{name}-headless")["spec"]["selector"]
    for deployment in (canary, stable):
        assert service.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    # Neither Deployment counts the other's pods as its own.
    own = stable["spec"]["selector"]["matchLabels"]
    assert not own.items() <= canary["spec"]["template"]["metadata"]["labels"].items()
    assert not select(render(), "Deployment", f"shop-errand-{name}-canary")
    if name != "inference":
        assert f"{name}.canary.replicas" in refused("minimal", **{f"{name}__canary__replicas": 1})


def test_tools_take_a_runtime_class() -> None:
    manifests = render(tools__runtimeClassName="gvisor")
    pods = {name: workload(manifests, name)["spec"]["template"]["spec"] for name in SERVICES}
    assert {name for name, pod in pods.items() if pod.get("runtimeClassName") == "gvisor"} == {"tools"}
    assert not [pod for pod in pods.values() if pod.get("runtimeClassName") == ""]


def test_gpus_are_asked_for_only_where_they_are_wanted() -> None:
    limits = workload(render("gpu"), "inference")["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == 1
    limits = workload(render(), "inference")["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert "nvidia.com/gpu" not in limits


def test_serving_comes_before_training() -> None:
    values = {"defaults__priorityClassName": "serving", "priorityClass__create": True, "train__enabled": True}
    manifests = render(**values)
    assert select(manifests, "PriorityClass", "serving")
    assert workload(manifests, "agent")["spec"]["template"]["spec"]["priorityClassName"] == "serving"
    train = find(manifests, "CronJob", "train")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert "priorityClassName" not in train
    assert not select(render(), "PriorityClass")
    assert "defaults.priorityClassName" in refused(priorityClass__create=True)
