"""Databases, index, MLflow: bundled, external or not there at all; keys; migrations; backups."""

from __future__ import annotations

import base64

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.chart.rendering import environment, find, refused, render, select

EXTERNAL = {
    "database": {"kind": "external", "existingSecret": "db"},
    "redis": {"kind": "external", "existingSecret": "redis"},
    "chroma": {"kind": "external", "url": "http://chroma.vectors:8000"},
    "mlflow": {"kind": "external", "url": "http://mlflow.ml:5000/"},
}


@pytest.mark.parametrize("name", ["postgres", "redis", "chroma", "mlflow"])
def test_an_external_backend_leaves_nothing_of_the_bundled_one(name: str) -> None:
    key = "database" if name == "postgres" else name
    component = "app.kubernetes.io/component"
    assert [m for m in render() if m["metadata"].get("labels", {}).get(component) == name]
    external = render(**{key: EXTERNAL[key]})
    assert not [m for m in external if m["metadata"].get("labels", {}).get(component) == name]


def test_the_minimal_profile_has_no_database_server() -> None:
    manifests = render("minimal")
    assert not select(manifests, "Job")
    assert not select(manifests, "StatefulSet", "shop-errand-postgres")
    assert "ERRAND_GATEWAY_DATABASE_URL" not in environment(manifests, "gateway")
    assert "ERRAND_RAG_CHROMA_URL" not in environment(manifests, "rag")
    assert "ERRAND_GATEWAY_RATE_LIMIT_STORAGE" not in environment(manifests, "gateway")


@pytest.mark.parametrize(("kind", "secret"), [({"kind": "bundled"}, "shop-errand-redis"), (EXTERNAL["redis"], "redis")])
def test_gateways_and_rag_share_one_redis(kind: dict[str, str], secret: str) -> None:
    manifests = render(redis=kind)
    for service, name in (("gateway", "RATE_LIMIT_STORAGE"), ("rag", "EMBEDDING_CACHE_URL")):
        found = environment(manifests, service)[f"ERRAND_{service.upper()}_{name}"]
        assert found == {"secretKeyRef": {"name": secret, "key": "url"}}
    assert "ERRAND_RAG_EMBEDDING_CACHE_URL" not in environment(render("minimal"), "rag")


def test_mlflow_off_sends_no_spans() -> None:
    manifests = render(mlflow={"kind": "off"})
    assert not [name for name in environment(manifests, "agent") if "MLFLOW" in name]
    assert environment(render(mlflow=EXTERNAL["mlflow"]), "agent")["ERRAND_AGENT_MLFLOW_ENDPOINT"] == (
        "http://mlflow.ml:5000/v1/traces"
    )


def test_keys_are_usable_and_outlive_the_release() -> None:
    secret = find(render(), "Secret", "keys")
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    data = {name: base64.b64decode(value) for name, value in secret["data"].items()}
    assert isinstance(load_pem_private_key(data["signing-key.pem"], None), Ed25519PrivateKey)
    assert data["admin-key"].startswith(b"errand_")
    assert len(data["pepper"]) >= 32
    Fernet(data["seal-key"])
    assert not select(render(secrets={"existingSecret": "mine"}), "Secret", "shop-errand-keys")


def test_each_service_has_a_role_of_its_own() -> None:
    data = find(render(), "Secret", "database")["data"]
    urls = [base64.b64decode(data[f"{name}-url"]).decode() for name in ("gateway", "agent", "rag", "tools", "mlflow")]
    assert len({url.split("//")[1].split("@")[0] for url in urls}) == 5


def test_migrations_come_before_the_code() -> None:
    external = find(render(database=EXTERNAL["database"]), "Job", "migrate-1")
    assert external["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    # A first install with a bundled Postgres: the Job runs beside it, the pods wait.
    bundled = render()
    assert "annotations" not in find(bundled, "Job", "migrate-1")["metadata"]
    for kind, name in (
        ("Deployment", "gateway"),
        ("StatefulSet", "agent"),
        ("Deployment", "rag"),
        ("Deployment", "tools"),
    ):
        waiting = find(bundled, kind, name)["spec"]["template"]["spec"]["initContainers"]
        assert [container["name"] for container in waiting] == ["wait-for-tables"]
    assert "initContainers" not in find(bundled, "Deployment", "inference")["spec"]["template"]["spec"]


def test_a_migration_needs_no_secret_that_the_release_itself_makes() -> None:
    job = find(render(database=EXTERNAL["database"]), "Job", "migrate-1")["spec"]["template"]["spec"]
    named = {
        entry["valueFrom"]["secretKeyRef"]["name"]
        for container in [*job["containers"], *job["initContainers"]]
        for entry in container["env"]
        if "valueFrom" in entry
    }
    assert named == {"db"}
    assert "serviceAccountName" not in job


def test_backups_only_where_asked_for() -> None:
    assert not select(render(), "CronJob")
    assert not select(render(), "PersistentVolumeClaim", "shop-errand-backup")
    job = find(render(backup__enabled=True, backup__keep=3), "CronJob", "backup")
    container = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["initContainers"][0]
    assert container["args"] == ["dump", "/backup", "3"]
    assert "only a bundled database is backed up" in refused("minimal", backup__enabled=True)


def test_vectors_in_postgres_need_no_chroma() -> None:
    manifests = render(database=EXTERNAL["database"], chroma__kind="pgvector")
    assert environment(manifests, "rag")["ERRAND_RAG_VECTOR_STORE"] == "pgvector"
    assert not select(manifests, "StatefulSet", "shop-errand-chroma")
    job = find(manifests, "Job", "migrate-1")["spec"]["template"]["spec"]
    (rag,) = [container for container in job["containers"] if container["name"] == "rag"]
    assert {"name": "ERRAND_RAG_VECTOR_STORE", "value": "pgvector"} in rag["env"]
    assert "chroma.kind: pgvector" in refused(chroma__kind="pgvector")
