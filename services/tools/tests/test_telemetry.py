"""What is counted and traced of a call."""

from typing import Any

import pytest
from errand_common.telemetry import genai
from errand_tools import telemetry
from errand_tools.domain.effects import CallPosition
from errand_tools.domain.execution import Call
from errand_tools.domain.limits import CircuitBreaker
from errand_tools.domain.progress import Tell
from errand_tools.domain.tools import ExecutionStatus, Outcome, ServiceDown, failure
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY
from structlog.testing import capture_logs


class Scripted:
    """An executor that gives or raises what it is told."""

    def __init__(self, result: Outcome | Exception) -> None:
        self.result = result

    async def execute(self, tenant_id: str, call: Call, tell: Tell) -> Outcome:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def observed(result: Outcome | Exception) -> telemetry.ObservedExecutor:
    executor: Any = Scripted(result)
    return telemetry.ObservedExecutor(executor, frozenset({"calculator"}))


def call(name: str) -> Call:
    return Call(name, '{"expression": "1"}', CallPosition("run_1", 1, 0))


def counted(tool: str, status: str) -> float:
    return REGISTRY.get_sample_value("tool_calls_total", {"tool": tool, "status": status}) or 0.0


async def test_circuits_are_counted_while_they_are_open() -> None:
    now = 100.0
    breaker = CircuitBreaker(failures=2, open_seconds=30, clock=lambda: now)
    telemetry.watch_circuits(lambda: breaker.open)

    def open_circuits() -> float | None:
        return REGISTRY.get_sample_value("circuits_open", {"target": "tool endpoints"})

    for tool in ("a", "a", "b"):
        with pytest.raises(ServiceDown), breaker.guard(tool):
            raise ServiceDown("away")
    assert open_circuits() == 1
    now += 31
    assert open_circuits() == 0


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "_tracer", provider.get_tracer("test"))
    return exporter


async def test_builtin_tools_are_counted_by_name_and_others_together() -> None:
    before = counted("calculator", "succeeded"), counted("custom", "succeeded")
    done = observed(Outcome(ExecutionStatus.SUCCEEDED, "1"))
    for name in ("calculator", "of_a_tenant", "of_another"):
        await done.execute("t1", call(name))
    assert counted("calculator", "succeeded") == before[0] + 1
    assert counted("custom", "succeeded") == before[1] + 2
    assert counted("of_a_tenant", "succeeded") == 0


async def test_errors_are_counted_and_raised() -> None:
    before = counted("calculator", "error")
    with pytest.raises(RuntimeError):
        await observed(RuntimeError("gone")).execute("t1", call("calculator"))
    assert counted("calculator", "error") == before + 1


async def test_a_call_is_a_span(spans: InMemorySpanExporter) -> None:
    outcome = failure(ExecutionStatus.FAILED, "It broke.", effect_id="eff_1")
    await observed(outcome).execute("t1", call("calculator"))
    [span] = spans.get_finished_spans()
    assert span.name == "execute_tool calculator"
    assert not span.status.is_ok
    attributes = dict(span.attributes or {})
    assert attributes[genai.OPERATION] == "execute_tool"
    assert attributes[genai.TOOL_NAME] == "calculator"
    assert attributes[genai.TOOL_CALL_ID] == "eff_1"
    assert attributes[genai.MLFLOW_INPUTS] == '{"expression": "1"}'
    assert attributes[genai.MLFLOW_OUTPUTS] == '{"error": "It broke."}'


async def test_what_is_denied_is_told_to_the_operator() -> None:
    with capture_logs() as logs:
        await observed(failure(ExecutionStatus.DENIED, "The host is not allowed.")).execute("t1", call("mine"))
        await observed(failure(ExecutionStatus.INVALID_ARGUMENTS, "No.")).execute("t1", call("mine"))
    [told] = logs
    assert (told["event"], told["tenant_id"], told["tool"]) == ("tool call denied", "t1", "mine")
    assert "not allowed" in told["reason"]


@pytest.mark.parametrize("status", [ExecutionStatus.FAILED, ExecutionStatus.TIMED_OUT, ExecutionStatus.UNSETTLED])
async def test_a_tool_that_did_not_do_it_is_logged_without_its_own_words(status: ExecutionStatus) -> None:
    with capture_logs() as logs:
        await observed(failure(status, "ann@example.com is not here.", duration_ms=12.5)).execute("t1", call("mine"))
    [told] = logs
    assert (told["event"], told["log_level"], told["tool"]) == ("tool call failed", "info", "mine")
    assert (told["tenant_id"], told["status"], told["duration_ms"]) == ("t1", status.value, 12.5)
    assert "ann@" not in str(told)
