"""Reads what MLflow has of runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import mlflow
import pytest

from tests.e2e.conftest import Suite

# A process that found MLflow away looks again after five seconds at most.
_QUIET_SECONDS = 6.0
# Each is read with all its spans, which takes MLflow 15 ms.
_OF_OTHERS = 100


def traces_of(
    suite: Suite,
    run_ids: Sequence[str],
    seconds: float = 90,
    is_enough: Callable[[dict[str, Any]], bool] = lambda _: True,
) -> dict[str, Any]:
    """The runs' traces by run id, as soon as they are enough and nothing more of them comes.

    Five processes send their spans, and on a busy machine one of them may be silent for longer than it says.
    """
    until = time.monotonic() + seconds
    known, since = 0, time.monotonic()
    wanted = set(run_ids)
    while True:
        found = {run: trace for trace in _search(suite, len(run_ids)) for run in _runs_of(trace) & wanted}
        spans = sum(len(trace.data.spans) for trace in found.values())
        if spans != known:
            known, since = spans, time.monotonic()
        is_quiet = len(found) == len(run_ids) and time.monotonic() - since > _QUIET_SECONDS
        if (is_quiet and is_enough(found)) or time.monotonic() > until:
            return found
        time.sleep(1)


def whole_trace(suite: Suite, run_id: str, is_wanted: Callable[[Any], bool]) -> Any:
    """The run's trace as soon as it is whole and as wanted; fails the test when it does not become so."""
    until, trace = time.monotonic() + 90, None
    while time.monotonic() < until:
        trace = next((trace for trace in _search(suite, 1) if run_id in _runs_of(trace)), None)
        if trace is not None and root_of(trace) is not None and not orphans(trace) and is_wanted(trace):
            return trace
        time.sleep(0.5)
    pytest.fail(f"no such trace of {run_id}: {[span.name for span in trace.data.spans] if trace else None}")


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
    return list(mlflow.search_traces(locations=["0"], return_type="list", max_results=_OF_OTHERS + 2 * at_least))


def _runs_of(trace: Any) -> set[str]:
    """The run that was asked for, and those of the agents that it called."""
    return {str(span.attributes["errand.run_id"]) for span in trace.data.spans if "errand.run_id" in span.attributes}


def assert_whole(trace: Any, *, of_others: bool = True) -> None:
    """One root, the chat, and every other span below a span that is there.

    Without `of_others` only the agent's own spans are looked at: what a killed process had ended within the
    last half second was not sent, and then other services' spans below it have no parent.
    """
    assert not orphans(trace, of_others=of_others), orphans(trace, of_others=of_others)
    assert len([span.name for span in trace.data.spans if span.parent_id is None]) == 1


def orphans(trace: Any, *, of_others: bool = True) -> list[str]:
    """Spans below one that is not there."""
    known = {span.span_id for span in trace.data.spans}
    looked_at = [span for span in trace.data.spans if of_others or not span.name.startswith(("chat ", "execute_tool "))]
    return [span.name for span in looked_at if span.parent_id is not None and span.parent_id not in known]


def assert_complete(trace: Any) -> None:
    """Each of the agent's steps holds what the service behind it told of it."""
    assert not untold_steps(trace), untold_steps(trace)
    assert [span.name for span in _steps(trace) if span.name == "think"], "a run has a model step"


def untold_steps(trace: Any) -> list[str]:
    """Steps of which the service behind them told nothing."""
    below = Counter(span.parent_id for span in trace.data.spans)
    return [span.name for span in _steps(trace) if not below[span.span_id]]


def _steps(trace: Any) -> list[Any]:
    of_agent = [span for span in trace.data.spans if not span.name.startswith(("chat ", "execute_tool "))]
    return [span for span in of_agent if span.span_type in ("CHAT_MODEL", "TOOL")]
