"""What is counted of a run's context."""

from errand_agent.domain.context import Plan
from errand_agent.telemetry import RunSpan, TracingObserver
from prometheus_client import REGISTRY


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
