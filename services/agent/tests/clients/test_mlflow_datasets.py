"""Exports of training data in MLflow: versions by digest, without the examples."""

import json
from dataclasses import replace
from typing import Any

import httpx
from errand_agent.clients.mlflow_datasets import EXPERIMENT, UNLOGGED, MlflowDatasets
from errand_agent.domain.examples import Dataset, DigestedLines

DATASET = Dataset("acme.examples", "0" * 32, 7, {"agent": "", "limit": 10})


class FakeMlflow:
    """Keeps runs with their inputs; the experiment is not there at first."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/2.0/mlflow/")
        given = json.loads(request.content) if request.content else dict(request.url.params)
        if path == "experiments/get-by-name":
            if (found := self.experiments.get(given["experiment_name"])) is None:
                return httpx.Response(404, json={"error_code": "RESOURCE_DOES_NOT_EXIST"})
            return httpx.Response(200, json={"experiment": {"experiment_id": found}})
        if path == "experiments/create":
            self.experiments[given["name"]] = "7"
            return httpx.Response(200, json={"experiment_id": "7"})
        if path == "runs/create":
            assert given["experiment_id"] == "7"
            self.runs.append(given)
            return httpx.Response(200, json={"run": {"info": {"run_id": str(len(self.runs) - 1)}}})
        assert path in {"runs/log-inputs", "runs/update"}
        self.runs[int(given["run_id"])] |= given
        return httpx.Response(200, json={})


async def test_each_export_is_a_run_with_the_dataset_as_its_input() -> None:
    mlflow, unlogged = FakeMlflow(), UNLOGGED._value.get()
    async with httpx.AsyncClient(transport=httpx.MockTransport(mlflow)) as http:
        for dataset in (DATASET, replace(DATASET, digest="1" * 32, examples=8)):
            await MlflowDatasets(http, "http://mlflow/").log(dataset)
    assert UNLOGGED._value.get() == unlogged
    assert list(mlflow.experiments) == [EXPERIMENT]
    first, second = mlflow.runs
    assert (first["status"], first["run_name"]) == ("FINISHED", "acme.examples")
    [logged] = first["datasets"]
    assert logged["tags"] == [{"key": "mlflow.data.context", "value": "training"}]
    assert (logged["dataset"]["name"], logged["dataset"]["digest"]) == ("acme.examples", "0" * 32)
    assert json.loads(logged["dataset"]["source"]) == {"agent": "", "limit": 10}
    assert json.loads(logged["dataset"]["profile"]) == {"examples": 7}
    assert second["datasets"][0]["dataset"]["digest"] == "1" * 32


async def test_an_export_does_not_fail_with_mlflow() -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(500))) as http:
        unlogged = UNLOGGED._value.get()
        await MlflowDatasets(http, "http://mlflow").log(DATASET)
        assert UNLOGGED._value.get() == unlogged + 1


def test_the_same_lines_are_the_same_version() -> None:
    def digest(*lines: str) -> str:
        digested = DigestedLines()
        assert [digested.add(line) for line in lines] == list(lines)
        return digested.digest

    assert digest("a", "b") == digest("a", "b")
    assert len({digest("a", "b"), digest("b", "a"), digest("ab"), digest()}) == 4
