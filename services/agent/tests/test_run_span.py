"""The span of a run, over waits for people, forks, and beyond the bound of traces."""

import json
from collections.abc import Mapping
from typing import Any

from errand_agent.domain.runs import Outcome, Prices, StepKind, StopReason, Usage
from errand_agent.telemetry import RunSpan, TracingObserver
from errand_common.telemetry import carried_trace, entered_trace, genai, tracer
from errand_common.telemetry.story import repeatable_id
from errand_common.testing.spans import RecordedSpans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode
from opentelemetry.util.types import AttributeValue

CHAT = {genai.MLFLOW_INPUTS: "{}"}
RUN: Mapping[str, Any] = {genai.OPERATION: genai.INVOKE_AGENT}
ANSWER = Outcome(StopReason.ANSWER, "42.", (), Usage())
USAGE = Usage(prompt_tokens=1000, completion_tokens=100)


def _asked() -> dict[str, str]:
    with tracer("test").start_as_current_span("chat request", attributes=CHAT):
        return carried_trace()


def _run(run_id: str = "run_1", **more: str) -> RunSpan:
    return RunSpan(run_id, "invoke_agent default", RUN, **more)


def _steps(span: RunSpan) -> None:
    observer = TracingObserver("default", span)
    with observer.step(StepKind.THINK, "run_1.1.answer", {}):
        pass
    with observer.waiting("run_1.1.decide"):
        pass
    with observer.step(StepKind.ACT, "run_1.1.0", {"tool": "stock"}):
        pass


def _runs(spans: RecordedSpans) -> list[ReadableSpan]:
    return [span for span in spans.ended if span.name == "invoke_agent default"]


def test_a_wait_for_people_ends_the_span_and_another_goes_on(spans: RecordedSpans) -> None:
    with entered_trace(_asked()), _run() as span:
        _steps(span)
        span.describe(ANSWER, Prices())
    asked = next(span for span in spans.ended if span.name == "chat request")
    before, after = _runs(spans)
    assert [span.name for span in spans.ended].index("invoke_agent default") == 2, "sent while people think"
    assert [span.parent.span_id for span in (before, after) if span.parent] == [asked.context.span_id] * 2
    assert [link.context.span_id for link in after.links] == [before.context.span_id]
    above = {span.name: span.parent.span_id for span in spans.ended if span.parent}
    assert (above["think"], above["stock"]) == (before.context.span_id, after.context.span_id)
    stops = [str((span.attributes or {})[genai.MLFLOW_OUTPUTS]) for span in (before, after)]
    assert ["NEEDS_APPROVAL" in stops[0], "ANSWER" in stops[1]] == [True, True]


def test_a_run_that_begins_anew_after_a_crash_has_the_same_spans_again(spans: RecordedSpans) -> None:
    carried = _asked()
    for _ in range(2):
        with entered_trace(carried), _run() as span:
            _steps(span)
    ids = [span.context.span_id for span in _runs(spans)]
    assert ids[:2] == ids[2:]
    assert ids[0] != ids[1]


def test_a_run_without_a_trace_to_go_on_in_is_one_trace_too(spans: RecordedSpans) -> None:
    with entered_trace({}), _run() as span:
        _steps(span)
    assert len({span.context.trace_id for span in spans.ended}) == 1
    assert len([span for span in spans.ended if span.parent is None]) == 1


def test_a_fork_is_linked_to_the_run_it_comes_from(spans: RecordedSpans) -> None:
    carried = _asked()
    with entered_trace(carried), _run():
        pass
    with entered_trace(carried), _run("run_2", forked_from="run_1"):
        pass
    origin, fork = _runs(spans)
    assert origin.context.span_id == repeatable_id("run_1")
    assert [(link.context.trace_id, link.context.span_id) for link in fork.links] == [
        (origin.context.trace_id, origin.context.span_id)
    ]


def test_a_run_that_failed_is_told_of_though_its_trace_is_not(spans: RecordedSpans) -> None:
    with spans.counting():
        carried = _asked()
    for reason in (StopReason.ANSWER, StopReason.UNAVAILABLE):
        with entered_trace(carried), _run() as span:
            _steps(span)
            span.describe(Outcome(reason, "", (), Usage()), Prices())
    [told] = spans.ended
    assert (told.name, told.status.status_code) == ("invoke_agent default", StatusCode.ERROR)
    assert "UNAVAILABLE" in str((told.attributes or {})[genai.MLFLOW_OUTPUTS])
    assert told.links, "it leads to the trace of its request, whose id logs have"


def _told(spans: RecordedSpans, outcome: Outcome, prices: Prices) -> Mapping[str, AttributeValue]:
    with entered_trace({}), _run() as span:
        span.describe(outcome, prices)
    return _runs(spans)[0].attributes or {}


def test_answer_tokens_and_cost_are_told(spans: RecordedSpans) -> None:
    prices = Prices(prompt=0.5, completion=2.0)
    outcome = Outcome(StopReason.ANSWER, "42.", (), USAGE, cost_micros=prices.cost_micros(USAGE))
    told = _told(spans, outcome, prices)
    assert json.loads(str(told[genai.MLFLOW_OUTPUTS])) == {"answer": "42.", "stop": "ANSWER"}
    assert (told[genai.INPUT_TOKENS], told[genai.OUTPUT_TOKENS]) == (1000, 100)
    cost = json.loads(str(told[genai.MLFLOW_COST]))
    assert cost == {"input_cost": 0.0005, "output_cost": 0.0002, "total_cost": 0.0007}


def test_without_prices_no_cost_is_told(spans: RecordedSpans) -> None:
    assert genai.MLFLOW_COST not in _told(spans, Outcome(StopReason.ANSWER, "42.", (), USAGE), Prices())
