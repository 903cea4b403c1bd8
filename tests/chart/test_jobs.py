"""Jobs beside the services: by a schedule, or when somebody asks for them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.rendering import environment, find, refused, render, select, workload

JOBS: dict[str, dict[str, Any]] = {
    "backup": {"enabled": True},
    "ingest": {"enabled": True, "claim": "documents"},
    "train": {"enabled": True},
}


def _pod(manifests: list[dict[str, Any]], name: str) -> dict[str, Any]:
    spec: dict[str, Any] = find(manifests, "CronJob", name)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return spec


def test_no_job_runs_that_nobody_asked_for() -> None:
    assert not select(render(), "CronJob")
    for name, values in JOBS.items():
        manifests = render(**{name: values})
        suspended = {job["metadata"]["name"]: job["spec"]["suspend"] for job in select(manifests, "CronJob")}
        # Only backups come with a schedule, and never a restore.
        assert [job for job, is_suspended in suspended.items() if not is_suspended] == (
            ["shop-errand-backup"] if name == "backup" else []
        )


@pytest.mark.parametrize("name", ["ingest", "train"])
def test_a_job_takes_a_schedule(name: str) -> None:
    job = find(render(**{name: {**JOBS[name], "schedule": "5 4 * * *"}}), "CronJob", name)["spec"]
    assert (job["schedule"], job["suspend"], job["concurrencyPolicy"]) == ("5 4 * * *", False, "Forbid")
    assert f"{name}.schedule" in refused(**{name: {**JOBS[name], "schedule": "hourly"}})


def test_a_backup_holds_vectors_only_where_the_release_has_them() -> None:
    both = _pod(render(backup=JOBS["backup"]), "backup")
    assert [c["name"] for c in [*both["initContainers"], *both["containers"]]] == ["databases", "vectors"]
    external = {"kind": "external", "url": "http://chroma.vectors:8000"}
    rows = _pod(render(backup=JOBS["backup"], chroma=external), "backup")
    assert [c["name"] for c in rows["containers"]] == ["databases"]
    assert "initContainers" not in rows


def test_a_restore_takes_the_backup_that_is_named() -> None:
    named = _pod(render(backup={"enabled": True, "restoreFrom": "20261121T021700Z"}), "restore")
    assert named["initContainers"][0]["args"] == ["restore", "/backup", "20261121T021700Z"]
    assert named["containers"][0]["args"] == ["restore", "/backup", "20261121T021700Z"]
    assert "backup.restoreFrom" in refused(backup__restoreFrom="../yesterday")


def test_ingestion_reads_a_volume_and_writes_with_a_key_of_its_own() -> None:
    values = {**JOBS["ingest"], "folder": "manuals", "collection": "handbook", "keySecret": "ingest-key"}
    container = _pod(render(ingest=values), "ingest")["containers"][0]
    assert container["args"] == ["ingest", "/documents/manuals", "--collection", "handbook"]
    own = {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}
    assert own["ERRAND_URL"] == "http://shop-errand-gateway:80"
    assert own["ERRAND_API_KEY"] == {"secretKeyRef": {"name": "ingest-key", "key": "api-key"}}
    mount = next(mount for mount in container["volumeMounts"] if mount["name"] == "documents")
    assert mount["readOnly"] is True
    assert "ingest.claim" in refused(ingest__enabled=True)


def test_training_goes_on_where_it_stopped_and_keeps_its_result() -> None:
    manifests = render(train={"enabled": True, "minutes": 30, "arguments": ["--precision=bf16"], "gpus": 1})
    container = _pod(manifests, "train")["containers"][0]
    assert {"--run-folder=/work/run", "--output=/work/model", "--minutes=30"} <= set(container["args"])
    assert container["args"][-1] == "--precision=bf16"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    claim = find(manifests, "PersistentVolumeClaim", "train")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert (
        "--base=/base" in _pod(render(train={"enabled": True, "baseClaim": "gemma"}), "train")["containers"][0]["args"]
    )
    assert "train.arguments" in refused(train={"enabled": True, "arguments": ["rm -rf /"]})


@pytest.mark.parametrize(
    "values", [{"inference__hubId": "google/functiongemma-270m-it"}, {"inference__modelClaim": "m"}]
)
def test_another_model_is_converted_before_it_is_served(values: dict[str, Any]) -> None:
    """The serving image has no torch: without this step it could neither convert the model nor embed."""
    manifests = render(**values)
    spec = workload(manifests, "inference")["spec"]["template"]["spec"]
    (prepare,) = spec["initContainers"]
    assert prepare["args"] == ["prepare"]
    assert "inference-torch" in prepare["image"]
    assert environment(manifests, "inference")["ERRAND_INFERENCE_CACHE_DIR"] == "/cache"
    assert {"name": "cache", "mountPath": "/cache"} in prepare["volumeMounts"]
    assert prepare["env"] == spec["containers"][0]["env"]


def test_the_bundled_model_needs_no_preparation() -> None:
    manifests = render()
    assert "initContainers" not in workload(manifests, "inference")["spec"]["template"]["spec"]
    assert "ERRAND_INFERENCE_CACHE_DIR" not in environment(manifests, "inference")
