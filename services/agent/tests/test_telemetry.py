"""What a run's span tells at its end."""

import json

from errand_agent.domain.context import Plan
from errand_agent.domain.runs import Outcome, Prices, StopReason, Usage
from errand_agent.telemetry import RunSpan, TracingObserver, describe_run
from errand_common.telemetry import genai
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.util.types import AttributeValue
from prometheus_client import REGISTRY

USAGE = Usage(prompt_tokens=1000, completion_tokens=100)


def _told(outcome: Outcome, prices: Prices) -> dict[str, AttributeValue]:
    span = TracerProvider().get_tracer("test").start_span("run")
    describe_run(span, outcome, prices)
    span.end()
    return dict(span.attributes or {})  # type: ignore[attr-defined]


def test_answer_tokens_and_cost_are_told() -> None:
    prices = Prices(prompt=0.5, completion=2.0)
    outcome = Outcome(StopReason.ANSWER, "42.", (), USAGE, cost_micros=prices.cost_micros(USAGE))
    told = _told(outcome, prices)
    assert json.loads(str(told[genai.MLFLOW_OUTPUTS])) == {"answer": "42.", "stop": "ANSWER"}
    assert (told[genai.INPUT_TOKENS], told[genai.OUTPUT_TOKENS]) == (1000, 100)
    cost = json.loads(str(told[genai.MLFLOW_COST]))
    assert cost == {"input_cost": 0.0005, "output_cost": 0.0002, "total_cost": 0.0007}


def test_without_prices_no_cost_is_told() -> None:
    assert genai.MLFLOW_COST not in _told(Outcome(StopReason.ANSWER, "42.", (), USAGE), Prices())


def _value(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


def test_how_a_context_was_filled_is_counted() -> None:
    names = (
        "token_budget_used_sum",
        "token_budget_remaining_sum",
        "token_budget_overflows_total",
        "token_budget_summarizations_total",
        "agent_citations_removed_total",
    )
    before = [_value(name) for name in names]
    observer = TracingObserver("default", RunSpan("run_1", "invoke_agent default", {}))
    observer.context(Plan(turns=2, passages=1, used_tokens=300, remaining_tokens=700, overflowed=True), summarised=True)
    observer.context(
        Plan(turns=9, passages=1, used_tokens=50, remaining_tokens=950, overflowed=False), summarised=False
    )
    observer.citations_removed(3)
    moved = [_value(name) - known for name, known in zip(names, before, strict=True)]
    assert moved == [350, 1650, 1, 1, 3]
