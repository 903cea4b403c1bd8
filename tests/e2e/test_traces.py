"""Every request is one whole tree in MLflow."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.conftest import DOLLARS_A_MILLION, Suite
from tests.e2e.traces import assert_complete, assert_whole, traces_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

# `make traces-test` asks for more.
REQUESTS = int(os.environ.get("ERRAND_TRACES_REQUESTS", "24"))
STREAM = {"Accept": "text/event-stream"}
QUESTIONS = ("What time is it in Lima?", "Convert 3 miles to kilometers", "Hello!", "What is 12 * 12?")


def _chat(suite: Suite, number: int) -> str:
    return str(suite.chat(QUESTIONS[number % len(QUESTIONS)])["run_id"])


def _stream(suite: Suite, number: int) -> str:
    body = {"message": QUESTIONS[number % len(QUESTIONS)]}
    with suite.http.stream("POST", "/api/v1/chat", json=body, headers=STREAM) as response:
        return _run_id(response.read().decode())


def _run_id(events: str) -> str:
    return events.partition('"run_id":"')[2].partition('"')[0]


def _tool_fails(suite: Suite, number: int) -> str:
    return str(suite.chat(("What is 10 / 0?", "Fetch http://10.0.0.1/secret")[number % 2])["run_id"])


def _follow_up(suite: Suite, number: int) -> str:
    first = suite.chat("What time is it in Oslo?")
    return str(suite.chat("What is 2 + 3?", conversation_id=first["conversation_id"])["run_id"])


def _started(suite: Suite) -> str:
    started = suite.http.post("/api/v1/runs", json={"message": QUESTIONS[0]})
    assert started.is_success, started.text
    return str(started.json()["id"])


def _resume(suite: Suite, number: int) -> str:
    """A run in the background, its events read in two parts."""
    run_id = _started(suite)
    with suite.http.stream("GET", f"/api/v1/runs/{run_id}/events", headers=STREAM) as response:
        seen = next(line for line in response.iter_lines() if line.startswith("id:"))
    headers = {**STREAM, "Last-Event-ID": seen.removeprefix("id:").strip()}
    with suite.http.stream("GET", f"/api/v1/runs/{run_id}/events", headers=headers) as response:
        assert "event: ended" in response.read().decode()
    return run_id


def _cancel(suite: Suite, number: int) -> str:
    run_id = _started(suite)
    assert suite.http.post(f"/api/v1/runs/{run_id}/cancel").is_success
    return run_id


def _leave(suite: Suite, number: int) -> str:
    """A client that goes away in the middle of its stream."""
    with suite.http.stream("POST", "/api/v1/chat", json={"message": QUESTIONS[0]}, headers=STREAM) as response:
        return _run_id(next(line for line in response.iter_lines() if line.startswith("data:")))


WAYS: tuple[Callable[[Suite, int], str], ...] = (
    _chat,
    _stream,
    _tool_fails,
    _follow_up,
    _resume,
    _chat,
    _cancel,
    _leave,
)


@pytest.fixture(scope="module")
def run_ids(suite: Suite) -> list[str]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda number: WAYS[number % len(WAYS)](suite, number), range(REQUESTS)))


@pytest.mark.timeout(1800)
def test_every_run_is_one_tree_without_orphans(suite: Suite, run_ids: list[str]) -> None:
    assert len(set(run_ids)) == REQUESTS
    traces = traces_of(suite, run_ids, seconds=90 + REQUESTS)
    assert set(traces) == set(run_ids)
    for number, run_id in enumerate(run_ids):
        assert_whole(traces[run_id])
        if WAYS[number % len(WAYS)] not in (_cancel, _leave):
            assert_complete(traces[run_id])


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
    cost = json.loads(trace.info.trace_metadata["mlflow.trace.cost"])["total_cost"]
    tokens = run["usage"]["prompt_tokens"] + run["usage"]["completion_tokens"]
    assert cost == pytest.approx(tokens * DOLLARS_A_MILLION / 1e6, abs=1e-5)
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
