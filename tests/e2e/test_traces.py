"""Every request is one whole tree in MLflow."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.conftest import Suite
from tests.e2e.traces import assert_whole, traces_of

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


def test_every_run_is_one_tree_without_orphans(suite: Suite, run_ids: list[str]) -> None:
    assert len(set(run_ids)) == REQUESTS + 1
    traces = traces_of(suite, run_ids)
    assert set(traces) == set(run_ids)
    for trace in traces.values():
        assert_whole(trace)


def test_a_run_reads_as_a_story(suite: Suite) -> None:
    run = suite.chat("Convert 3 miles to kilometers")
    trace = traces_of(suite, [run["run_id"]])[run["run_id"]]
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


def test_what_a_person_says_of_an_answer_stands_on_its_trace(suite: Suite) -> None:
    run = suite.chat("What is 12 * 12?")
    for body in ({"helpful": True}, {"helpful": False, "comment": "too short", "correction": "12 * 12 is 144."}):
        said = suite.http.post("/api/v1/feedback", json={"run_id": run["run_id"], **body})
        assert said.is_success, said.text
    until = time.monotonic() + 120
    found: dict[str, Any] = {}
    while "expected_response" not in found and time.monotonic() < until:
        trace = traces_of(suite, [run["run_id"]])[run["run_id"]]
        found = {item.name: item for item in trace.info.assessments}
    assert found["helpful"].value is False
    assert found["helpful"].rationale == "too short"
    assert found["expected_response"].value == "12 * 12 is 144."
    assert len(trace.info.assessments) == 2, "the second opinion replaces the first"
