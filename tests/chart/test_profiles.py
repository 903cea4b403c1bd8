"""Every profile renders, fits the schemas of Kubernetes, and holds what each pod must have."""

from __future__ import annotations

from functools import cache
from typing import Any

import kubernetes_validate
import kubernetes_validate.utils
import pytest

from tests.chart.rendering import CHART, PROFILES, pods, render, sources

# The oldest supported to the newest.
VERSIONS = tuple(f"1.{minor}.0" for minor in range(28, 37))
# Custom resources have no schema in Kubernetes.
CUSTOM = {"ServiceMonitor", "PrometheusRule", "HTTPRoute", "ScaledObject", "Certificate", "Issuer"}
EVERYTHING: dict[str, Any] = {
    "serviceMonitor__enabled": True,
    "prometheusRule__enabled": True,
    "dashboards__enabled": True,
    "httpRoute__enabled": True,
    "httpRoute__gateway__name": "public",
    "ingress__enabled": True,
    "backup__enabled": True,
    "mtls__enabled": True,
    "telemetry__otlpEndpoint": "http://tempo:4318/v1/traces",
    "telemetry__collector__enabled": True,
    "telemetry__headersSecret": "tempo",
    "defaults__priorityClassName": "serving",
    "priorityClass__create": True,
    "ingest__enabled": True,
    "ingest__claim": "documents",
    "train__enabled": True,
    "gateway__canary__replicas": 1,
    "inference__modelClaim": "models",
    "inference__cache__storage": "5Gi",
}
SCALED = {"gateway__autoscaling__enabled": True}


# All that the chart can render meets each version, the profiles meet the first and the last.
FITS = [(None, version) for version in VERSIONS] + [(p, v) for p in PROFILES for v in (VERSIONS[0], VERSIONS[-1])]


@pytest.fixture(autouse=True)
def _schemas_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library reads some megabytes of JSON for each manifest."""
    monkeypatch.setattr(kubernetes_validate.utils, "schema_contents", _schema_contents)


_schema_contents = cache(kubernetes_validate.utils.schema_contents)


@pytest.mark.parametrize(("profile", "version"), FITS)
def test_manifests_fit_the_schemas_of_kubernetes(profile: str | None, version: str) -> None:
    more = EVERYTHING if profile is None else {}
    for manifest in render(profile, **more):
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_every_template_renders_what_is_asked_for_and_nothing_else() -> None:
    templates = {str(path.relative_to(CHART.parent)) for path in (CHART / "templates").rglob("*.yaml")}
    assert sources(**EVERYTHING, **SCALED) == templates
    least = {"redis__kind": "memory", "mlflow__kind": "off", "networkPolicy__enabled": False}
    assert {path.split("/", 2)[2] for path in sources("minimal", **least)} == {
        *("secrets.yaml", "tests/chat.yaml"),
        *(f"services/{name}.yaml" for name in ("accounts", "services", "volumes", "workloads")),
    }


@pytest.mark.parametrize("profile", [None, *PROFILES])
def test_every_pod_keeps_to_the_restricted_profile(profile: str | None) -> None:
    for name, spec in pods(render(profile, **(EVERYTHING if profile is None else {}))):
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] is True, name
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert "memory" in container["resources"]["limits"], name
            assert "cpu" in container["resources"]["requests"], name


@pytest.mark.parametrize("profile", [None, *PROFILES])
def test_every_service_account_and_claim_that_is_named_is_made(profile: str | None) -> None:
    manifests = render(profile)
    made = {(m["kind"], m["metadata"]["name"]) for m in manifests}
    for name, spec in pods(manifests):
        if account := spec.get("serviceAccountName"):
            assert ("ServiceAccount", account) in made, name
        for volume in spec.get("volumes", []):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            assert claim in (None, "functiongemma") or ("PersistentVolumeClaim", claim) in made, name


@pytest.mark.parametrize("profile", [None, *PROFILES])
def test_every_volume_that_is_mounted_is_there(profile: str | None) -> None:
    manifests = render(profile, **(EVERYTHING if profile is None else {}))
    claimed = {t["metadata"]["name"] for m in manifests for t in m.get("spec", {}).get("volumeClaimTemplates", [])}
    for name, spec in pods(manifests):
        volumes = {volume["name"] for volume in spec.get("volumes", [])} | claimed
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            for mount in container.get("volumeMounts", []):
                assert mount["name"] in volumes, f"{name}: {mount['name']}"
