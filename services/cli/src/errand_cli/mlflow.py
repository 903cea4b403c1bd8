"""Finds a run's trace in MLflow, over MLflow's REST API."""

from __future__ import annotations

import re
from dataclasses import dataclass

import httpx

from errand_cli.client import ApiError

_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class FoundTrace:
    """A trace and where MLflow shows it."""

    trace_id: str
    url: str


def find_trace(mlflow_url: str, run_id: str, experiment: str = "0") -> FoundTrace | None:
    """The newest trace that has a span of the run; None when MLflow has none (yet).

    Raises ApiError when MLflow does not answer or the id is none.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise ApiError(f"{run_id!r} is no run id; `errand run show` takes the same.")
    body = {
        "locations": [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}],
        # Stored as JSON text: MLflow compares with the quotes around it.
        "filter": f"span.attributes.errand.run_id LIKE '%{run_id}%'",
        "order_by": ["timestamp_ms DESC"],
        "max_results": 1,
    }
    base = mlflow_url.rstrip("/")
    try:
        response = httpx.post(f"{base}/api/3.0/mlflow/traces/search", json=body, timeout=_TIMEOUT_SECONDS)
        response.raise_for_status()
        traces = response.json().get("traces", [])
    except (httpx.HTTPError, ValueError) as error:
        raise ApiError(f"MLflow at {base} does not answer ({error}); `errand doctor` checks it.") from error
    if not traces:
        return None
    found = str(traces[0]["trace_id"])
    # Both names: MLflow's pages of this and of earlier versions read one each.
    page = f"{base}/#/experiments/{experiment}/traces?selectedEvaluationId={found}&traceId={found}"
    return FoundTrace(found, page)
