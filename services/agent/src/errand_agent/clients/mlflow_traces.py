"""Traces that MLflow keeps of tenants and people, and their end."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any

import httpx
from errand_common.errors import InvalidArgument, Unavailable
from errand_common.telemetry import genai

from errand_agent.clients.mlflow import open_api

_EXPERIMENT = "x-mlflow-experiment-id"
_AT_ONCE = 100
# A trace's whole text is searched and deleted with it.
_SECONDS = 60.0


class MlflowTraces:
    """Deletes traces by the tenant that their root names."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http, self._url = http, url
        self._experiment = http.headers.get(_EXPERIMENT, "0")

    async def erase(self, tenant_id: str, *, person: str = "", before: datetime | None = None) -> int:
        """How many were deleted: all of the tenant, or of its one person, or those older than a moment.

        Raises Unavailable when MLflow is away or does not do it.
        """
        wanted = [f"tags.`{genai.TENANT_ID}` = {_quoted(tenant_id)}"]
        if person:
            wanted.append(f"metadata.`mlflow.trace.user` = {_quoted(person)}")
        if before is not None:
            wanted.append(f"trace.timestamp_ms < {int(before.timestamp() * 1000)}")
        deleted = 0
        try:
            while found := await self._found(" AND ".join(wanted)):
                asked = {"experiment_id": self._experiment, "request_ids": found}
                gone = (await self._post("2.0/mlflow/traces/delete-traces", asked)).get("traces_deleted", 0)
                if not gone:
                    raise Unavailable("MLflow")
                deleted += gone
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable("MLflow") from error
        return deleted

    async def _found(self, wanted: str) -> list[str]:
        location = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": self._experiment}}
        asked = {"locations": [location], "filter": wanted, "max_results": _AT_ONCE}
        return [trace["trace_id"] for trace in (await self._post("3.0/mlflow/traces/search", asked)).get("traces", [])]

    async def _post(self, path: str, asked: Mapping[str, Any]) -> Any:
        return (await self._http.post(f"{self._url}/api/{path}", json=dict(asked))).raise_for_status().json()


def _quoted(text: str) -> str:
    """As MLflow's filters write a text; they have no way to write one with both quotes."""
    quote = '"' if "'" in text else "'"
    if quote in text:
        raise InvalidArgument("holds both kinds of quotes, by which its traces cannot be found", field="principal_id")
    return f"{quote}{text}{quote}"


async def open_traces(stack: AsyncExitStack, endpoint: str | None, headers: Mapping[str, str]) -> MlflowTraces | None:
    """None unless spans go to MLflow itself; closed with the stack."""
    opened = await open_api(stack, endpoint, headers, seconds=_SECONDS)
    return None if opened is None else MlflowTraces(*opened)
