"""Every request is one whole tree in MLflow."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.conftest import DOLLARS_A_MILLION, Suite
from tests.e2e.traces import assert_complete, assert_whole, traces_of, untold_steps, whole_trace
from tests.e2e.ways import WAYS, called, cancel, decide, leave, make_agents, waiting

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

# `make traces-test` asks for more.
REQUESTS = int(os.environ.get("ERRAND_TRACES_REQUESTS", "30"))


@pytest.fixture(scope="module")
def agents(suite: Suite) -> None:
    make_agents(suite)


@pytest.fixture(scope="module")
def run_ids(suite: Suite, agents: None) -> list[str]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda number: WAYS[number % len(WAYS)](suite, number), range(REQUESTS)))


@pytest.mark.timeout(1800)
def test_every_run_is_one_tree_without_orphans(suite: Suite, run_ids: list[str]) -> None:
    assert len(set(run_ids)) == REQUESTS
    ended = [run for number, run in enumerate(run_ids) if WAYS[number % len(WAYS)] not in (cancel, leave)]
    traces = traces_of(
        suite,
        run_ids,
        seconds=90 + REQUESTS,
        is_enough=lambda found: not any(untold_steps(found[run]) for run in ended),
    )
    assert set(traces) == set(run_ids)
    for number, run_id in enumerate(run_ids):
        assert_whole(traces[run_id])
        if run_id in ended:
            assert_complete(traces[run_id])
        if WAYS[number % len(WAYS)] is called:
            above = _above(traces[run_id])
            assert (above["invoke_agent helper"], above["ask_helper"]) == ("ask_helper", "invoke_agent lead")


def _above(trace: Any) -> dict[str, str | None]:
    """The name of what each span is below."""
    names = {span.span_id: span.name for span in trace.data.spans}
    return {span.name: names.get(span.parent_id) for span in trace.data.spans}


def test_a_run_that_waits_for_a_person_is_a_whole_trace_before_and_after(suite: Suite, agents: None) -> None:
    """People take days: what was done before is not to hang below a span that ends after them."""
    run_id = waiting(suite)
    whole_trace(suite, run_id, lambda trace: len(_runs(trace)) == 1)
    decide(suite, run_id, "approve")
    trace = whole_trace(suite, run_id, lambda trace: len(_runs(trace)) == 2)
    first, second = _runs(trace)
    assert first.end_time_ns <= second.start_time_ns
    assert first.parent_id == second.parent_id
    names = {span.name: span.parent_id for span in trace.data.spans}
    assert names["stock"] == second.span_id


def _runs(trace: Any) -> list[Any]:
    found = [span for span in trace.data.spans if span.name.startswith("invoke_agent")]
    return sorted(found, key=lambda span: int(span.start_time_ns))


def test_a_run_reads_as_a_story(suite: Suite) -> None:
    run = suite.chat("Convert 3 miles to kilometers")
    trace = whole_trace(suite, run["run_id"], lambda trace: not untold_steps(trace))
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
    trace = whole_trace(suite, run["run_id"], lambda trace: "expected_response" in _said(trace))
    found = _said(trace)
    assert found["helpful"].value is False
    assert found["helpful"].rationale == "too short"
    assert found["expected_response"].value == "12 * 12 is 144."
    assert len(trace.info.assessments) == 2, "the second opinion replaces the first"


def _said(trace: Any) -> dict[str, Any]:
    return {item.name: item for item in trace.info.assessments}
