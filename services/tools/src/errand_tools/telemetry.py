"""What is counted and traced of tool calls."""

import time
from collections.abc import Callable

import structlog
from errand_common.telemetry import configure_logging, configure_tracing, genai, tracer
from errand_common.telemetry.metrics import CIRCUITS_OPEN, counter, exemplar, from_zero, histogram, serve_metrics
from opentelemetry.trace import Span, Status, StatusCode

from errand_tools.domain.execution import Call, ToolExecutor
from errand_tools.domain.progress import Tell, unheard
from errand_tools.domain.tools import ExecutionStatus, Outcome
from errand_tools.settings import ToolsSettings

CALLS = counter("tool_calls_total", "Tool calls, built-in ones by name, by how they ended", "tool", "status")
DURATION = histogram("tool_call_duration_seconds", "Time of a tool call with checks and ledger", "tool")
_CUSTOM = "custom"
_LONGEST_TEXT = 20_000
_NOT_DONE = frozenset({ExecutionStatus.FAILED, ExecutionStatus.TIMED_OUT, ExecutionStatus.UNSETTLED})
_tracer = tracer(__name__)
_log = structlog.get_logger(__name__)


def configure(settings: ToolsSettings) -> None:
    """Starts logs, traces and metrics of the process."""
    configure_logging("tools", settings.log_level, settings.log_format)
    configure_tracing("tools", settings)
    serve_metrics(settings.metrics_port, settings.host)


def watch_circuits(count: Callable[[], int]) -> None:
    """Asks at each scrape how many tools' circuits are open: one closes by time alone."""
    CIRCUITS_OPEN.labels("tool endpoints").set_function(count)


class ObservedExecutor:
    """An executor whose calls are counted, timed and traced.

    Tenants' tools share one label: their names are text of users, without a bound.
    """

    def __init__(self, executor: ToolExecutor, builtin_names: frozenset[str]) -> None:
        self._executor = executor
        self._builtin_names = builtin_names
        # One that is unsettled wakes somebody, and the first one is not to be missed.
        from_zero(CALLS, {*builtin_names, _CUSTOM}, [ExecutionStatus.UNSETTLED])

    async def execute(self, tenant_id: str, call: Call, tell: Tell = unheard) -> Outcome:
        """The call's outcome; raises what the executor raises."""
        label = call.name if call.name in self._builtin_names else _CUSTOM
        status = "error"
        started = time.perf_counter()
        attributes = {genai.OPERATION: genai.EXECUTE_TOOL}
        with _tracer.start_as_current_span(f"{genai.EXECUTE_TOOL} {label}", attributes=attributes) as span:
            try:
                outcome = await self._executor.execute(tenant_id, call, tell)
                status = outcome.status.value
                _tell_operator(tenant_id, call, outcome)
                if span.is_recording():
                    _describe(span, call, outcome)
                return outcome
            finally:
                CALLS.labels(label, status).inc()
                DURATION.labels(label).observe(time.perf_counter() - started, exemplar())


def _tell_operator(tenant_id: str, call: Call, outcome: Outcome) -> None:
    told = {"tenant_id": tenant_id, "tool": call.name}
    if outcome.status is ExecutionStatus.DENIED:
        # What was held is an operator's business; the reason is a sentence of ours, not of the tool.
        _log.warning("tool call denied", **told, reason=outcome.result_json)
    elif outcome.status in _NOT_DONE:
        # The tool's own words may be anything, and anybody's.
        _log.info("tool call failed", **told, status=outcome.status.value, duration_ms=round(outcome.duration_ms, 1))


def _describe(span: Span, call: Call, outcome: Outcome) -> None:
    span.set_attributes(
        {
            genai.TOOL_NAME: call.name,
            genai.TOOL_CALL_ID: outcome.effect_id,
            # Both are JSON already.
            genai.MLFLOW_INPUTS: call.arguments_json[:_LONGEST_TEXT],
            genai.MLFLOW_OUTPUTS: outcome.result_json[:_LONGEST_TEXT],
        }
    )
    if outcome.status is not ExecutionStatus.SUCCEEDED:
        span.set_status(Status(StatusCode.ERROR, outcome.status.value))
