"""MLflow's own registry and datasets with the running suite: prompts are read from it, exports are told to it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from tests.e2e.conftest import Suite
from tests.e2e.traces import is_up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
DATASETS = "errand-datasets"


@pytest.fixture
def registry(suite: Suite) -> MlflowClient:
    _until(lambda: is_up(suite))
    mlflow.set_tracking_uri(suite.mlflow_url)
    return MlflowClient(suite.mlflow_url, suite.mlflow_url)


def _until(holds: Callable[[], Any]) -> Any:
    """What it gives once it gives something; the last answer after a minute and a half."""
    until = time.monotonic() + 90
    while not (found := holds()) and time.monotonic() < until:
        time.sleep(0.5)
    return found


def test_a_prompt_of_mlflows_registry_stands_in_an_agents_place(suite: Suite, registry: MlflowClient) -> None:
    for template in ("Be kind to {{ user }}.", "Be short."):
        registry.register_prompt("default.tone", template)
    registry.set_prompt_alias("default.tone", "live", 1)
    agent = {"name": "toned", "instructions": "Be plain.", "prompt": "tone@live", "tools": ["calculator"]}
    made = suite.http.post("/api/v1/agents", json=agent)
    assert made.status_code == 201, made.text
    newest = suite.http.get("/api/v1/prompts/tone").json()
    assert newest["template"] == "Be short."
    first = suite.http.get("/api/v1/prompts/tone", params={"version": 1}).json()
    assert first["template"] == "Be kind to {{ user }}."
    run = suite.chat("What is 6 times 7?", agent="toned")
    assert suite.http.get(f"/api/v1/runs/{run['run_id']}").json()["prompt"] == "tone:1"


def test_an_export_is_a_dataset_there(suite: Suite, registry: MlflowClient) -> None:
    assert suite.http.put("/api/v1/consent", json={"training": True}).status_code == 200
    suite.chat("What is 6 times 7?")
    lines = suite.http.get("/api/v1/examples", params={"limit": 1}).text.splitlines()
    assert len(lines) == 1

    def logged() -> list[Any]:
        experiment = registry.get_experiment_by_name(DATASETS)
        runs = registry.search_runs([experiment.experiment_id]) if experiment else []
        return [each.dataset for run in runs for each in run.inputs.dataset_inputs]

    [dataset, *_] = _until(logged)
    assert json.loads(dataset.profile) == {"examples": 1}
    assert "6 times 7" not in dataset.source + dataset.profile, "MLflow is told what was taken, not the words"
