"""What an operator got wrong: the pod says it in one line, and `helm test` names the component."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.cluster import Release, run

pytestmark = pytest.mark.timeout(900)

WRONG = {
    "inference.settings.model_path": "/models/nothing",
    "tools.secretSettings.secret_keys": {"secret": "nowhere", "key": "keys"},
    "rag.resources": {"requests": {"memory": "40Mi"}, "limits": {"memory": "40Mi"}},
}


def _status(release: Release, component: str, told: Callable[[dict[str, Any]], str], word: str) -> str:
    """Waits until a container of the component tells the word."""
    until = time.monotonic() + 120
    while True:
        for pod in release.pods(component):
            for container in pod["status"].get("containerStatuses", []):
                if word in (said := told(container)):
                    return said
        assert time.monotonic() < until, f"no {component} pod says {word}"
        time.sleep(1)


def _last_line(release: Release, component: str) -> str:
    """What its pod said last, as soon as it has said something."""
    until = time.monotonic() + 120
    while True:
        for pod in release.pods(component):
            # Between two starts there may be no container to ask.
            said = release.kubectl("logs", pod["metadata"]["name"], check=False).strip().splitlines()
            if said and not said[-1].startswith("unable to retrieve"):
                return said[-1]
        assert time.monotonic() < until, f"{component} says nothing"
        time.sleep(1)


def _waits_for(container: dict[str, Any]) -> str:
    return str(container["state"].get("waiting", {}).get("message", ""))


def _ended_by(container: dict[str, Any]) -> str:
    ends = [container[state].get("terminated", {}).get("reason", "") for state in ("state", "lastState")]
    return " ".join(ends)


def test_a_wrong_model_a_missing_secret_and_too_little_memory_are_named(wrong: Release) -> None:
    wrong.install(*[part for path, value in WRONG.items() for part in ("--set-json", f"{path}={json.dumps(value)}")],
                  "--set", "mlflow.kind=off", wait=False)  # fmt: skip
    missing = _status(wrong, "tools", _waits_for, "nowhere")
    killed = _status(wrong, "rag", _ended_by, "OOMKilled")
    said = _last_line(wrong, "inference")
    wrong.log.say(f"wrong: tools: {missing}; rag: {killed}; inference: {said}")
    assert "/models/nothing" in said

    told = wrong.helm("test", "errand", "--logs", check=False)
    failed = [line.partition(":")[0] for line in told.splitlines() if line.startswith("FAILED")]
    wrong.log.say(f"wrong: helm test: {failed}")
    assert {"FAILED inference", "FAILED rag", "FAILED tools"} <= set(failed)


def test_a_database_that_is_away_stops_the_install_and_is_named(wrong: Release) -> None:
    url = "postgresql+asyncpg://errand:canary@database.invalid:5432/errand"
    keys = ("gateway-url", "agent-url", "agent-dbos-url", "rag-url", "tools-url")
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "away"},
        "stringData": dict.fromkeys(keys, url),
    }
    run("kubectl", "create", "namespace", wrong.namespace)
    wrong.kubectl("apply", "--filename", "-", text=json.dumps(secret))
    with pytest.raises(AssertionError, match="pre-install"):
        wrong.install("--set", "database.kind=external,database.existingSecret=away", "--timeout", "30s", wait=False)
    said = wrong.kubectl("logs", "job/errand-migrate-1", "--container", "wait-for-database").strip()
    wrong.log.say(f"wrong: {said}")
    assert said.startswith("waiting for the database at database.invalid:5432/errand: ")
    assert "canary" not in said
