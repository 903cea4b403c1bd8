"""Traces of a tenant or a person are deleted by what their roots tell, all of them, or it is said that they are not."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from errand_agent.clients.mlflow_traces import MlflowTraces
from errand_common.errors import InvalidArgument, Unavailable


class FakeMlflow:
    """Keeps traces by id with their tenant; `status` is what it answers."""

    def __init__(self, **tenants: str) -> None:
        self.tenants = tenants
        self.status, self.deletes = 200, True
        self.filters: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)
        if self.status != 200:
            return httpx.Response(self.status, json={})
        answer = self._found(asked) if request.url.path.endswith("/search") else self._deleted(asked)
        return httpx.Response(200, json=answer)

    def _found(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert asked["locations"][0]["mlflow_experiment"] == {"experiment_id": "7"}
        self.filters.append(asked["filter"])
        tenant = re.findall(r"= ['\"](.*?)['\"]", asked["filter"])[0]
        found = [trace for trace, owner in self.tenants.items() if owner == tenant][: asked["max_results"]]
        return {"traces": [{"trace_id": trace} for trace in found]} if found else {}

    def _deleted(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert asked["experiment_id"] == "7"
        if not self.deletes:
            return {}
        for trace in asked["request_ids"]:
            del self.tenants[trace]
        return {"traces_deleted": len(asked["request_ids"])}


def _traces(mlflow: FakeMlflow) -> MlflowTraces:
    transport, headers = httpx.MockTransport(mlflow), {"x-mlflow-experiment-id": "7"}
    return MlflowTraces(httpx.AsyncClient(transport=transport, headers=headers), "http://mlflow")


async def test_all_of_a_tenant_go_and_no_others() -> None:
    mlflow = FakeMlflow(**{f"tr-{number}": ("a", "ab")[number % 2] for number in range(500)})
    assert await _traces(mlflow).erase("a") == 250
    assert set(mlflow.tenants.values()) == {"ab"}
    assert await _traces(mlflow).erase("a") == 0


async def test_a_persons_and_old_ones_are_asked_for() -> None:
    mlflow = FakeMlflow()
    await _traces(mlflow).erase("a", person="o'hara", before=datetime(2026, 1, 1, tzinfo=UTC))
    [asked] = mlflow.filters
    assert asked.split(" AND ") == [
        "tags.`errand.tenant_id` = 'a'",
        'metadata.`mlflow.trace.user` = "o\'hara"',
        "trace.timestamp_ms < 1767225600000",
    ]


async def test_an_id_that_no_filter_can_hold_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="quotes"):
        await _traces(FakeMlflow()).erase("a", person="both ' and \"")


async def test_whoever_keeps_them_must_say_so() -> None:
    mlflow = FakeMlflow(**{"tr-1": "a"})
    mlflow.status = 503
    with pytest.raises(Unavailable, match="MLflow"):
        await _traces(mlflow).erase("a")
    mlflow.status, mlflow.deletes = 200, False
    with pytest.raises(Unavailable, match="MLflow"):
        await _traces(mlflow).erase("a")
