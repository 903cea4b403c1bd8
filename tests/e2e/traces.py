"""Reads what MLflow has of runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx
import mlflow
import pytest

from tests.e2e.conftest import Suite

# A process that found MLflow away looks again after five seconds at most.
_QUIET_SECONDS = 6.0


def traces_of(suite: Suite, run_ids: Sequence[str], seconds: float = 90) -> dict[str, Any]:
    """The runs' traces by run id, as soon as nothing more of them comes; five processes send their spans."""
    until = time.monotonic() + seconds
    known, since = 0, time.monotonic()
    while True:
        found = {run: trace for trace in _search(suite, len(run_ids)) if (run := _run_of(trace)) in run_ids}
        spans = sum(len(trace.data.spans) for trace in found.values())
        if spans != known:
            known, since = spans, time.monotonic()
        is_quiet = len(found) == len(run_ids) and time.monotonic() - since > _QUIET_SECONDS
        if is_quiet or time.monotonic() > until:
            return found
        time.sleep(1)


def trace_in_mlflow(suite: Suite, trace_id: str) -> Any:
    """The trace of this OpenTelemetry id, as soon as its root is there; fails the test when it does not come."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        if is_up(suite):
            mlflow.set_tracking_uri(suite.mlflow_url)
            trace = mlflow.get_trace(f"tr-{trace_id}", silent=True)
            if trace is not None and root_of(trace) is not None:
                return trace
        time.sleep(1)
    pytest.fail(f"MLflow has no whole trace {trace_id}")


def root_of(trace: Any) -> Any:
    """The span without a parent; None before it came."""
    return next((span for span in trace.data.spans if span.parent_id is None), None)


def is_up(suite: Suite) -> bool:
    """Whether MLflow answers; it needs longer than the suite."""
    try:
        return httpx.get(f"{suite.mlflow_url}/health", timeout=5).is_success
    except httpx.HTTPError:
        return False


def _search(suite: Suite, at_least: int) -> list[Any]:
    """The newest traces: as many as are looked for, and what other tests made meanwhile."""
    if not is_up(suite):
        return []
    mlflow.set_tracking_uri(suite.mlflow_url)
    return list(mlflow.search_traces(locations=["0"], return_type="list", max_results=500 + 2 * at_least))


def _run_of(trace: Any) -> str:
    return next((str(span.attributes["errand.run_id"]) for span in trace.data.spans if _is_run(span)), "")


def _is_run(span: Any) -> bool:
    return "errand.run_id" in span.attributes


def assert_whole(trace: Any, *, of_others: bool = True) -> None:
    """One root, the chat, and every other span below a span that is there.

    Without `of_others` only the agent's own spans are looked at: what a killed process had ended within the
    last half second was not sent, and then other services' spans below it have no parent.
    """
    spans = {span.span_id: span for span in trace.data.spans}
    looked_at = [span for span in spans.values() if of_others or not span.name.startswith(("chat ", "execute_tool "))]
    orphans = [span.name for span in looked_at if span.parent_id is not None and span.parent_id not in spans]
    assert not orphans, orphans
    assert len([span.name for span in spans.values() if span.parent_id is None]) == 1


def assert_complete(trace: Any) -> None:
    """Each of the agent's steps holds what the service behind it told of it."""
    below = Counter(span.parent_id for span in trace.data.spans)
    steps = [span for span in trace.data.spans if span.span_type in ("CHAT_MODEL", "TOOL") and _is_step(span)]
    alone = [span.name for span in steps if not below[span.span_id]]
    assert not alone, alone
    assert [span.name for span in steps if span.name == "think"], "a run has a model step"


def _is_step(span: Any) -> bool:
    return not span.name.startswith(("chat ", "execute_tool "))
