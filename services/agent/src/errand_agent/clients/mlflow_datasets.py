"""Exports of training data as datasets in MLflow: what was taken when, never the examples themselves.

A dataset's version is its digest, as MLflow has it: the same examples are the same version.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import httpx
import structlog
from errand_common.telemetry.metrics import counter

from errand_agent.clients.mlflow import open_api
from errand_agent.domain.examples import Dataset

UNLOGGED = counter("agent_datasets_unlogged_total", "Exports of training data that MLflow was not told of")
EXPERIMENT = "errand-datasets"
_SECONDS = 10.0
_log = structlog.get_logger(__name__)


class MlflowDatasets:
    """Logs each export as the input of a run of its own."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http, self._url = http, f"{url.rstrip('/')}/api/2.0/mlflow"

    async def log(self, dataset: Dataset) -> None:
        """Raises nothing: who exports has the examples already."""
        try:
            await self._log(dataset)
        except (httpx.HTTPError, ValueError, KeyError) as error:
            UNLOGGED.inc()
            _log.warning("an export is not logged", dataset=dataset.name, error=type(error).__name__)

    async def _log(self, dataset: Dataset) -> None:
        now = int(1000 * time.time())
        tags = [{"key": "errand.dataset", "value": dataset.name}, {"key": "errand.digest", "value": dataset.digest}]
        asked = {"experiment_id": await self._experiment(), "run_name": dataset.name, "start_time": now, "tags": tags}
        run_id = (await self._post("runs/create", asked))["run"]["info"]["run_id"]
        described = {
            "name": dataset.name,
            "digest": dataset.digest,
            "source_type": "errand",
            "source": json.dumps(dict(dataset.filter)),
            "profile": json.dumps({"examples": dataset.examples}),
        }
        context = [{"key": "mlflow.data.context", "value": "training"}]
        await self._post("runs/log-inputs", {"run_id": run_id, "datasets": [{"dataset": described, "tags": context}]})
        await self._post("runs/update", {"run_id": run_id, "status": "FINISHED", "end_time": now})

    async def _experiment(self) -> str:
        found = await self._http.get(f"{self._url}/experiments/get-by-name", params={"experiment_name": EXPERIMENT})
        if found.status_code == httpx.codes.NOT_FOUND:
            return str((await self._post("experiments/create", {"name": EXPERIMENT}))["experiment_id"])
        return str(found.raise_for_status().json()["experiment"]["experiment_id"])

    async def _post(self, path: str, asked: Mapping[str, Any]) -> Any:
        answer = await self._http.post(f"{self._url}/{path}", json=dict(asked))
        return answer.raise_for_status().json()


async def open_datasets(
    stack: AsyncExitStack, endpoint: str | None, headers: Mapping[str, str]
) -> MlflowDatasets | None:
    """None unless spans go to MLflow itself; closed with the stack."""
    opened = await open_api(stack, endpoint, headers, seconds=_SECONDS)
    return None if opened is None else MlflowDatasets(*opened)
