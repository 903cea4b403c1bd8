"""Every request is one whole tree in MLflow."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import mlflow
import pytest

from tests.e2e.conftest import Suite

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MESSAGES = (
    "What time is it in Lima?",
    "Convert 3 miles to kilometers",
    "Hello!",
    "What is 10 / 0?",
    "Fetch http://10.0.0.1/secret",
)
REQUESTS = 24


def _ask(suite: Suite, number: int) -> str:
    """Every third request streams; gives the run's id."""
    body = {"message": MESSAGES[number % len(MESSAGES)]}
    if number % 3:
        return str(suite.chat(**body)["run_id"])
    headers = {"Accept": "text/event-stream"}
    with suite.http.stream("POST", "/api/v1/chat", json=body, headers=headers) as response:
        text = response.read().decode()
    return text.partition('"run_id":"')[2].partition('"')[0]


def _cancel(suite: Suite) -> str:
    """A client that leaves in the middle of its stream."""
    headers = {"Accept": "text/event-stream"}
    with suite.http.stream("POST", "/api/v1/chat", json={"message": MESSAGES[0]}, headers=headers) as response:
        first = next(line for line in response.iter_lines() if line.startswith("data:"))
    return first.partition('"run_id":"')[2].partition('"')[0]


@pytest.fixture(scope="module")
def run_ids(suite: Suite) -> list[str]:
    with ThreadPoolExecutor(8) as pool:
        asked = list(pool.map(lambda number: _ask(suite, number), range(REQUESTS)))
    return [*asked, _cancel(suite)]


def _traces(suite: Suite, run_ids: Sequence[str]) -> dict[str, Any]:
    """The runs' traces by run id, as soon as nothing more of them comes; five processes send their spans."""
    until = time.monotonic() + 90
    known = 0
    while True:
        found = {run: trace for trace in _search(suite) if (run := _run_of(trace)) in run_ids}
        spans = sum(len(trace.data.spans) for trace in found.values())
        if (len(found) == len(run_ids) and spans == known) or time.monotonic() > until:
            return found
        known = spans
        time.sleep(2)


def _search(suite: Suite) -> list[Any]:
    try:
        httpx.get(f"{suite.mlflow_url}/health", timeout=5).raise_for_status()
    except httpx.HTTPError:
        return []
    mlflow.set_tracking_uri(suite.mlflow_url)
    return list(mlflow.search_traces(locations=["0"], return_type="list", max_results=500))


def _run_of(trace: Any) -> str:
    return next((str(span.attributes["errand.run_id"]) for span in trace.data.spans if _is_run(span)), "")


def _is_run(span: Any) -> bool:
    return "errand.run_id" in span.attributes


def test_every_run_is_one_tree_without_orphans(suite: Suite, run_ids: list[str]) -> None:
    assert len(set(run_ids)) == REQUESTS + 1
    traces = _traces(suite, run_ids)
    assert set(traces) == set(run_ids)
    for trace in traces.values():
        spans = {span.span_id: span for span in trace.data.spans}
        assert [span.name for span in spans.values() if span.parent_id is None] == ["chat request"]
        assert all(span.parent_id in spans for span in spans.values() if span.parent_id is not None)


def test_a_run_reads_as_a_story(suite: Suite) -> None:
    run = suite.chat("Convert 3 miles to kilometers")
    trace = _traces(suite, [run["run_id"]])[run["run_id"]]
    spans = {span.span_id: span for span in trace.data.spans}
    step = next(span for span in spans.values() if span.name == "convert_units")
    assert spans[step.parent_id].name == "invoke_agent default"
    assert "3" in str(step.inputs)
    assert "4.82" in str(step.outputs)
    root = next(span for span in spans.values() if span.parent_id is None)
    assert "Convert 3 miles" in str(root.inputs)
    assert run["answer"] in str(root.outputs)
    model = [span for span in spans.values() if span.name.startswith("chat errand-tiny")]
    assert len(model) == 2
    assert all(int(span.attributes["gen_ai.usage.input_tokens"]) > 0 for span in model)
