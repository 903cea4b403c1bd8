"""Exports of training data in a real MLflow: versions by digest, without the examples."""

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from errand_agent.clients.mlflow_datasets import EXPERIMENT, UNLOGGED, MlflowDatasets
from errand_agent.domain.examples import Dataset, DigestedLines

DATASET = Dataset("acme.examples", "0" * 32, 7, {"agent": "", "limit": 10})


# Of MLflow's own.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_each_export_is_a_run_with_the_dataset_as_its_input(mlflow: Any) -> None:
    datasets = MlflowDatasets(mlflow.http, "http://mlflow/")
    unlogged = UNLOGGED._value.get()
    for dataset in (DATASET, replace(DATASET, digest="1" * 32, examples=8)):
        await datasets.log(dataset)
    assert UNLOGGED._value.get() == unlogged
    experiment = mlflow.client.get_experiment_by_name(EXPERIMENT)
    second, first = mlflow.client.search_runs([experiment.experiment_id])
    assert (first.info.status, first.info.run_name) == ("FINISHED", "acme.examples")
    [logged] = first.inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == ("acme.examples", "0" * 32)
    assert json.loads(logged.dataset.source) == {"agent": "", "limit": 10}
    assert json.loads(logged.dataset.profile) == {"examples": 7}
    assert second.inputs.dataset_inputs[0].dataset.digest == "1" * 32


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
