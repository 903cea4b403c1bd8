"""A run's trace is found by MLflow's search, and only there."""

import json

import httpx
import pytest
import respx
from errand_cli.client import ApiError
from errand_cli.mlflow import find_trace

_URL = "http://mlflow"
_SEARCH = f"{_URL}/api/3.0/mlflow/traces/search"


@respx.mock
def test_the_trace_of_the_run_is_asked_for() -> None:
    route = respx.post(_SEARCH).mock(return_value=httpx.Response(200, json={"traces": [{"trace_id": "tr-1"}]}))
    found = find_trace(f"{_URL}/", "run_1", "7")
    assert found is not None
    assert found.url == f"{_URL}/#/experiments/7/traces?selectedEvaluationId=tr-1&traceId=tr-1"
    body = json.loads(route.calls.last.request.content)
    assert body["filter"] == "span.attributes.errand.run_id LIKE '%run_1%'"
    assert body["locations"][0]["mlflow_experiment"] == {"experiment_id": "7"}


@respx.mock
def test_no_trace_is_no_error() -> None:
    respx.post(_SEARCH).mock(return_value=httpx.Response(200, json={}))
    assert find_trace(_URL, "run_1") is None


def test_an_id_cannot_widen_the_search() -> None:
    with pytest.raises(ApiError, match="no run id"):
        find_trace(_URL, "%' OR '1'='1")


@respx.mock
@pytest.mark.parametrize("answer", [httpx.Response(500), httpx.Response(200, text="<html>"), httpx.ConnectError("no")])
def test_an_mlflow_that_is_away_is_named(answer: httpx.Response | Exception) -> None:
    respx.post(_SEARCH).mock(side_effect=[answer])
    with pytest.raises(ApiError, match="MLflow at http://mlflow does not answer"):
        find_trace(_URL, "run_1")
