"""Values that are wrong are refused before anything is installed, with their path."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from tests.chart.rendering import CHART, helm, refused


def test_the_schema_and_its_page_are_up_to_date() -> None:
    command = [sys.executable, str(CHART.parent / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_helm_finds_nothing_to_complain_about() -> None:
    done = subprocess.run(
        [helm(), "lint", "--strict", str(CHART)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("gatewai__replicas", 2, "gatewai"),
        ("gateway__replica", 2, "gateway: Additional property replica"),
        ("gateway__replicas", "two", "gateway.replicas: Invalid type"),
        ("gateway__replicas", -1, "gateway.replicas"),
        ("database__kind", "mysql", "database.kind"),
        ("database__kind", "external", "database.existingSecret"),
        ("chroma__kind", "external", "chroma.url"),
        ("mlflow", {"kind": "external", "url": "mlflow:5000"}, "mlflow.url"),
        ("database__storage", "8 GB", "database.storage"),
        ("inference__hubId", "functiongemma", "inference.hubId"),
        ("inference__settings__model_nam", "x", "inference.settings: Additional property model_nam"),
        ("inference__settings__engine", "llama", "inference.settings.engine"),
        ("inference__settings__max_batch", 0, "inference.settings.max_batch"),
        ("gateway__settings__rate_limit", "fast", "gateway.settings.rate_limit"),
        ("gateway__settings__port", 80, "gateway.settings: Additional property port"),
        ("gateway__autoscaling__cpuPercent", 170, "gateway.autoscaling.cpuPercent"),
        ("gateway__autoscaling__maxReplicas", 1, "gateway.autoscaling.minReplicas: is more than maxReplicas"),
        ("gateway__resources__limits__memory", "lots", "gateway.resources.limits.memory"),
        ("backup__schedule", "daily", "backup.schedule"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(path: str, value: Any, said: str) -> None:
    assert said in refused(**{path: value})


def test_rate_limits_in_memory_do_not_hold_for_many() -> None:
    assert "redis.kind: memory counts rate limits in each gateway alone" in refused(
        redis__kind="memory", gateway__replicas=2
    )


def test_embedded_chroma_belongs_to_one_pod() -> None:
    assert "rag.replicas: embedded Chroma" in refused(chroma__kind="embedded", rag__replicas=2)
