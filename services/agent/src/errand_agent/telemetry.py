"""Spans and metrics of runs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from errand_common.errors import ErrandError, Reason
from errand_common.telemetry import genai, tracer
from errand_common.telemetry.bound import start_kept_span
from errand_common.telemetry.metrics import (
    BoundedLabel,
    counter,
    counting_llm_failures,
    exemplar,
    from_zero,
    gauge,
    histogram,
)
from errand_common.telemetry.story import repeatable, repeatable_id
from opentelemetry import context as otel_context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    Span,
    SpanContext,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from prometheus_client import Counter

from errand_agent.domain.context import Plan
from errand_agent.domain.memory import Fact, Match
from errand_agent.domain.ports import Model, Thought, ToolSpec, Turn
from errand_agent.domain.runs import Outcome, Prices, StepKind, StopReason, Usage
from errand_agent.use_cases.memory import MemoryUseCases

RUNS = counter("agent_runs_total", "Runs that ended, by stop reason", "stop_reason")
from_zero(RUNS, StopReason)
STEPS = histogram("agent_steps_per_run", "Steps of a run", buckets=(1, 2, 3, 4, 6, 8, 12, 16, 32, 64))
REQUESTS = counter(
    "requests_total", "Steps that agents took, by agent (the first 50 names, then other) and kind", "agent", "node"
)
NODE_LATENCY = histogram(
    "node_latency_ms",
    "Milliseconds a step took, by kind",
    "node",
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 5000),
)
RETRIEVALS = counter("context_retrievals_total", "Times passages were looked up for a question")
STORED = counter("context_storage_total", "Messages and briefs stored for the context of later questions")
CITATIONS_REMOVED = counter("agent_citations_removed_total", "Citations of sources that were not given")
_TOKENS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 131072)
BUDGET_USED = histogram("token_budget_used", "Tokens of the context of a run with history or sources", buckets=_TOKENS)
BUDGET_REMAINING = histogram("token_budget_remaining", "Tokens of that context left over", buckets=_TOKENS)
BUDGET_OVERFLOWS = counter("token_budget_overflows_total", "Runs whose context did not hold all there was to show")
BUDGET_SUMMARIZATIONS = counter("token_budget_summarizations_total", "Running briefs that a model wrote")
FALLBACKS = counter(
    "routing_fallbacks_total", "Questions that another agent took than they were meant for", "from_agent", "to_agent"
)
WORKFLOWS = gauge("agent_workflows", "Durable workflows that have not ended, by DBOS status", "status")
INSERTS = counter("facts_insert_requests_total", "Requests to keep a fact, by OK or the reason of refusal", "status")
QUERIES = counter("facts_query_requests_total", "Requests for facts, by OK or the reason of refusal", "status")
DUPLICATES = counter("facts_duplicates_total", "Facts that were known already")
FACTS_DURATION = histogram("facts_request_duration_seconds", "Time of a request of facts", "endpoint")
_agent_label = BoundedLabel(50)
_tracer = tracer(__name__)
# Ends that nobody wanted: what alerts count, and what is told of every run.
_FAILED = frozenset({StopReason.INTERNAL, StopReason.UNAVAILABLE, StopReason.ERROR_THRESHOLD, StopReason.INCOMPATIBLE})
_OPERATIONS = {StepKind.THINK: genai.CHAT, StepKind.ACT: genai.EXECUTE_TOOL}
_MLFLOW_TYPES = {StepKind.THINK: "CHAT_MODEL", StepKind.ACT: "TOOL", StepKind.RETRIEVE: "RETRIEVER"}


class RunSpan:
    """The span of a run; a run that waits for people ends it there, and goes on in one of its own, linked to it.

    A span is sent when it ends: one that was open for the days that people take would leave the steps before it
    without a parent for as long, and tell of a slow run. Is there no trace to go on in, the first span begins one.
    """

    def __init__(self, run_id: str, name: str, attributes: Mapping[str, Any], *, forked_from: str = "") -> None:
        self._run_id, self._name, self._attributes, self._forked_from = run_id, name, attributes, forked_from
        self._span: Span = INVALID_SPAN

    def __enter__(self) -> RunSpan:
        self._outer = otel_context.get_current()
        self._token = otel_context.attach(self._outer)
        self._begin(self._run_id, self._origin())
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, Exception):
            self._span.record_exception(error)
            self._span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {error}")
        self._span.end()
        otel_context.detach(self._token)

    def _origin(self) -> Sequence[Link]:
        """The span of the run that this one was forked from, whose trace it is in."""
        above = get_current_span(self._outer).get_span_context()
        if not (self._forked_from and above.is_valid):
            return ()
        origin = repeatable_id(self._forked_from)
        return [Link(SpanContext(above.trace_id, origin, is_remote=True, trace_flags=above.trace_flags))]

    def _begin(self, key: str, links: Sequence[Link]) -> None:
        with repeatable(key):
            self._span = start_kept_span(_tracer, self._name, self._outer, attributes=self._attributes, links=links)
        if not get_current_span(self._outer).get_span_context().is_valid:
            self._outer = set_span_in_context(self._span, self._outer)
        otel_context.attach(set_span_in_context(self._span, self._outer))

    @contextmanager
    def waiting(self, key: str) -> Iterator[None]:
        """Around a wait for people."""
        self._span.set_attribute(genai.MLFLOW_OUTPUTS, genai.as_attribute({"stop": StopReason.NEEDS_APPROVAL}))
        self._span.end()
        try:
            yield
        finally:
            self._begin(key, [Link(self._span.get_span_context())])

    def describe(self, outcome: Outcome, prices: Prices) -> None:
        """What is told at the run's end: answer, tokens, cost in US dollars where there are prices."""
        usage = outcome.usage
        said = {"answer": outcome.answer, "stop": outcome.stop_reason}
        self._span.set_attribute(genai.MLFLOW_OUTPUTS, genai.as_attribute(said))
        self._span.set_attribute(genai.INPUT_TOKENS, usage.prompt_tokens)
        self._span.set_attribute(genai.OUTPUT_TOKENS, usage.completion_tokens)
        if outcome.stop_reason in _FAILED:
            self._span.set_status(StatusCode.ERROR, outcome.stop_reason.value)
        if outcome.cost_micros:
            read = prices.cost_micros(Usage(prompt_tokens=usage.prompt_tokens)) / 1e6
            whole = outcome.cost_micros / 1e6
            parts = {"input_cost": read, "output_cost": round(whole - read, 6), "total_cost": whole}
            self._span.set_attribute(genai.MLFLOW_COST, genai.as_attribute(parts))


class TracingObserver:
    """Tells MLflow and Prometheus what an agent's run does."""

    def __init__(self, agent: str, span: RunSpan) -> None:
        self._agent, self._span = _agent_label.of(agent), span

    def waiting(self, key: str) -> AbstractContextManager[None]:
        """The run's span ends, and another one goes on."""
        return self._span.waiting(key)

    @contextmanager
    def step(self, kind: StepKind, key: str, attributes: Mapping[str, Any]) -> Iterator[Callable[[Any], None]]:
        """A span around the step."""
        name = str(attributes.get("tool", "")) or kind.value.lower()
        with (
            repeatable(key),
            _tracer.start_as_current_span(name, attributes=_attributes(kind, attributes)) as span,
            self._counted(kind),
        ):
            yield lambda result: _result(span, result)

    @contextmanager
    def _counted(self, kind: StepKind) -> Iterator[None]:
        began, node = time.monotonic(), kind.value.lower()
        try:
            yield
        finally:
            REQUESTS.labels(self._agent, node).inc()
            NODE_LATENCY.labels(node).observe(1000 * (time.monotonic() - began), exemplar())
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


class ObservedModel:
    """A model whose failures are counted for the component that asks."""

    def __init__(self, model: Model, component: str) -> None:
        self._model, self._component = model, component

    async def think(
        self,
        turns: Sequence[Turn],
        *,
        model: str,
        instructions: str,
        tools: Sequence[ToolSpec],
        may_call: bool,
        on_text: Callable[[str], Awaitable[None]],
        temperature: float = 0.0,
    ) -> Thought:
        """As the model's own."""
        with counting_llm_failures(self._component):
            return await self._model.think(
                turns,
                model=model,
                instructions=instructions,
                tools=tools,
                may_call=may_call,
                on_text=on_text,
                temperature=temperature,
            )

    async def count_tokens(self, texts: Sequence[str], *, model: str) -> tuple[list[int], int]:
        """As the model's own."""
        with counting_llm_failures(self._component):
            return await self._model.count_tokens(texts, model=model)

    async def embed(self, texts: Sequence[str]) -> list[Sequence[float]]:
        """As the model's own."""
        with counting_llm_failures(self._component):
            return await self._model.embed(texts)


class ObservedMemory(MemoryUseCases):
    """Facts whose requests are counted and timed."""

    async def insert(self, fact: Fact) -> tuple[Fact, bool]:
        """As the use case's own."""
        with _facts_request("insert", INSERTS):
            kept, known = await super().insert(fact)
            DUPLICATES.inc(known)
            return kept, known

    async def query(
        self, *, text: str, key: str, agent: str, conversation_id: str, top_k: int, min_similarity: float
    ) -> list[Match]:
        """As the use case's own."""
        with _facts_request("query", QUERIES):
            return await super().query(
                text=text,
                key=key,
                agent=agent,
                conversation_id=conversation_id,
                top_k=top_k,
                min_similarity=min_similarity,
            )

    async def page(self, size: int, token: str) -> tuple[Sequence[Fact], str]:
        """As the use case's own."""
        with _facts_request("list"):
            return await super().page(size, token)

    async def delete(self, fact_id: str) -> None:
        """As the use case's own."""
        with _facts_request("delete"):
            await super().delete(fact_id)

    async def erase(self, principal_id: str) -> int:
        """As the use case's own."""
        with _facts_request("erase"):
            return await super().erase(principal_id)


@contextmanager
def _facts_request(endpoint: str, requests: Counter | None = None) -> Iterator[None]:
    began, status = time.monotonic(), Reason.INTERNAL.value
    try:
        yield
        status = "OK"
    except ErrandError as error:
        status = error.reason.value
        raise
    finally:
        FACTS_DURATION.labels(endpoint).observe(time.monotonic() - began, exemplar())
        if requests is not None:
            requests.labels(status).inc()


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


def count_fallback(from_agent: str, to_agent: str) -> None:
    """Counts a question that another agent takes."""
    FALLBACKS.labels(_agent_label.of(from_agent), _agent_label.of(to_agent)).inc()
