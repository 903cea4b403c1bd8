"""Spans and metrics of runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from errand_common.telemetry import genai, tracer
from errand_common.telemetry.metrics import counter, histogram
from errand_common.telemetry.story import repeatable
from opentelemetry.trace import Span

from errand_agent.domain.context import Plan
from errand_agent.domain.ports import Thought
from errand_agent.domain.runs import Outcome, StepKind

RUNS = counter("agent_runs_total", "Runs that ended, by stop reason", "stop_reason")
STEPS = histogram("agent_steps_per_run", "Steps of a run", buckets=(1, 2, 3, 4, 6, 8, 12, 16, 32, 64))
NODE_LATENCY = histogram(
    "node_latency_ms",
    "Milliseconds a step took, by kind",
    "node",
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 5000),
)
RETRIEVALS = counter("context_retrievals_total", "Times passages were looked up for a question")
CITATIONS_REMOVED = counter("agent_citations_removed_total", "Citations of sources that were not given")
_TOKENS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 131072)
BUDGET_USED = histogram("token_budget_used", "Tokens of the context a run began with", buckets=_TOKENS)
BUDGET_REMAINING = histogram("token_budget_remaining", "Tokens of the context left over", buckets=_TOKENS)
BUDGET_OVERFLOWS = counter("token_budget_overflows_total", "Runs whose context did not hold all there was to show")
BUDGET_SUMMARIZATIONS = counter("token_budget_summarizations_total", "Running briefs that a model wrote")
_tracer = tracer(__name__)
_OPERATIONS = {StepKind.THINK: genai.CHAT, StepKind.ACT: genai.EXECUTE_TOOL}
_MLFLOW_TYPES = {StepKind.THINK: "CHAT_MODEL", StepKind.ACT: "TOOL", StepKind.RETRIEVE: "RETRIEVER"}


class TracingObserver:
    """Tells MLflow and Prometheus what runs do."""

    @contextmanager
    def step(self, kind: StepKind, key: str, attributes: Mapping[str, Any]) -> Iterator[Callable[[Any], None]]:
        """A span around the step."""
        began = time.monotonic()
        name = str(attributes.get("tool", "")) or kind.value.lower()
        with (
            repeatable(key),
            _tracer.start_as_current_span(name, attributes=_attributes(kind, attributes)) as span,
        ):
            yield lambda result: _result(span, result)
        NODE_LATENCY.labels(kind.value.lower()).observe(1000 * (time.monotonic() - began))
        if kind is StepKind.RETRIEVE:
            RETRIEVALS.inc()

    def context(self, plan: Plan, *, summarised: bool) -> None:
        BUDGET_USED.observe(plan.used_tokens)
        BUDGET_REMAINING.observe(plan.remaining_tokens)
        if plan.overflowed:
            BUDGET_OVERFLOWS.inc()
        if summarised:
            BUDGET_SUMMARIZATIONS.inc()

    def citations_removed(self, count: int) -> None:
        CITATIONS_REMOVED.inc(count)


def _attributes(kind: StepKind, given: Mapping[str, Any]) -> dict[str, str]:
    attributes = {
        genai.MLFLOW_SPAN_TYPE: genai.as_attribute(_MLFLOW_TYPES[kind]),
        genai.MLFLOW_INPUTS: genai.as_attribute(given),
    }
    if operation := _OPERATIONS.get(kind):
        attributes[genai.OPERATION] = operation
    if "tool" in given:
        attributes[genai.TOOL_NAME] = str(given["tool"])
    return attributes


def _result(span: Span, result: Any) -> None:
    if isinstance(result, Thought):
        span.set_attribute(genai.RESPONSE_MODEL, result.model)
        span.set_attribute(genai.INPUT_TOKENS, result.usage.prompt_tokens)
        span.set_attribute(genai.OUTPUT_TOKENS, result.usage.completion_tokens)
        result = {"text": result.text, "calls": [f"{call.name}({call.arguments_json})" for call in result.calls]}
    span.set_attribute(genai.MLFLOW_OUTPUTS, genai.as_attribute(result))


def count_run(outcome: Outcome, steps: int) -> None:
    """Counts an ended run."""
    RUNS.labels(outcome.stop_reason.value).inc()
    STEPS.observe(steps)
