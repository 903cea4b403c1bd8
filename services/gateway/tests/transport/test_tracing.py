"""The root of a request's trace."""

import asyncio

import pytest
from errand_common.errors import Internal, Unavailable
from errand_common.telemetry import genai
from errand_common.testing.spans import RecordedSpans
from errand_gateway.testing.agent import FAIL
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import RunningGateway
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def _doors(spans: RecordedSpans) -> list[ReadableSpan]:
    return [span for span in spans.ended if span.kind is SpanKind.SERVER and span.parent is None]


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_one_root_tells_question_and_answer(gateway: RunningGateway, spans: RecordedSpans, accept: str) -> None:
    response = await gateway.http.post("/api/v1/chat", json={"message": "hello"}, headers={"Accept": accept})
    assert response.status_code == 200
    root = spans.story()["chat request"]
    assert spans.parent_in_story("chat request") is None
    assert root.attributes is not None
    assert "hello" in str(root.attributes[genai.MLFLOW_INPUTS])
    assert "You said: hello" in str(root.attributes[genai.MLFLOW_OUTPUTS])
    assert str(root.attributes[genai.SESSION_ID]).startswith("conv_")
    calls = [span for span in spans.ended if span.name.startswith("errand.agent.v1.AgentService/RunAgent")]
    assert {span.context.trace_id for span in calls} == {root.context.trace_id}
    assert root.attributes["http.route"] == "/api/v1/chat"
    assert root.attributes["mlflow.traceTag.errand.tenant_id"] == root.attributes["errand.tenant_id"] == "default"
    assert root.attributes["errand.request_id"] == response.headers["x-request-id"]


async def test_a_request_is_told_of_once(gateway: RunningGateway, spans: RecordedSpans) -> None:
    """The framework would add a span for each of its own steps, and each is paid for by every request."""
    await gateway.http.post("/api/v1/chat", json={"message": "hello"})
    # A gateway asks after runs that it does not know the end of, in traces of their own.
    assert len(_doors(spans)) == 1
    assert {span.instrumentation_scope.name.partition(".")[0] for span in spans.ended} == {
        "errand_gateway",
        "errand_common",
    }


async def test_the_callers_trace_is_linked_and_not_continued(gateway: RunningGateway, spans: RecordedSpans) -> None:
    await gateway.http.post("/api/v1/chat", json={"message": "hello"}, headers={"traceparent": CALLER})
    root = spans.story()["chat request"]
    assert [f"{link.context.trace_id:032x}" for link in root.links] == [CALLER.split("-")[1]]
    assert f"{root.context.trace_id:032x}" != CALLER.split("-")[1]


async def test_probes_are_not_traced(gateway: RunningGateway, spans: RecordedSpans) -> None:
    await gateway.http.get("/healthz")
    assert not [span for span in spans.ended if "request" in span.name]


async def test_a_fault_marks_its_trace_and_a_mistake_does_not(
    gateway: RunningGateway, backend: FakeBackend, spans: RecordedSpans
) -> None:
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
    backend.inference.fail_with = Unavailable("inference")
    await gateway.http.post("/v1/chat/completions", json=chat)
    await gateway.http.get("/api/v1/runs/run_unknown")
    roots = {
        dict(span.attributes or {})["http.response.status_code"]: span.status.status_code.name
        for span in spans.ended
        if span.parent is None and "http.response.status_code" in (span.attributes or {})
    }
    assert roots == {503: "ERROR", 404: "UNSET"}


async def test_a_point_of_a_figure_leads_to_its_trace(gateway: RunningGateway, spans: RecordedSpans) -> None:
    await gateway.http.post("/api/v1/chat", json={"message": "hello"})
    trace_id = f"{spans.story()['chat request'].context.trace_id:032x}"
    page = (await gateway.http.get("/metrics", headers={"Accept": "application/openmetrics-text"})).text
    points = [line.partition("#") for line in page.splitlines() if trace_id in line]
    [point] = [series for series, _, _ in points if series.startswith("http_request_duration_seconds_bucket{")]
    assert 'route="/api/v1/chat"' in point


async def test_beyond_the_bound_nothing_is_told_but_faults(
    gateway: RunningGateway, backend: FakeBackend, spans: RecordedSpans
) -> None:
    with spans.counting():
        await gateway.http.post("/api/v1/chat", json={"message": "hello"})
        await gateway.http.get("/api/v1/runs/run_unknown")
        backend.agent.fail_with = Unavailable("agent")
        await gateway.http.post("/api/v1/chat", json={"message": "hello"})
    [told] = _doors(spans)
    assert (told.name, told.parent, told.status.status_code.name) == ("chat request", None, "ERROR")
    attributes = dict(told.attributes or {})
    known = ("http.response.status_code", "http.route", "error.type")
    assert [attributes[name] for name in known] == [503, "/api/v1/chat", "UNAVAILABLE"]
    assert attributes[genai.USER_ID]
    assert spans.parent_in_story("chat request") is None


@pytest.mark.parametrize(("message", "code"), [("hello", "INTERNAL"), (FAIL, "UNAVAILABLE")])
async def test_what_breaks_in_a_stream_that_began_well_is_an_error(
    gateway: RunningGateway, backend: FakeBackend, spans: RecordedSpans, message: str, code: str
) -> None:
    """The stream of a run breaks, or the run itself ends by an error."""
    backend.agent.break_with = Internal("a fault") if code == "INTERNAL" else None
    with spans.counting():
        headers = {"Accept": "text/event-stream"}
        response = await gateway.http.post("/api/v1/chat", json={"message": message}, headers=headers)
        # A stream's request ends after its last byte has arrived.
        async with asyncio.timeout(20):
            while not (doors := _doors(spans)):  # noqa: ASYNC110 - spans ring no bell
                await asyncio.sleep(0.01)
    assert response.status_code == 200
    [told] = doors
    attributes = dict(told.attributes or {})
    assert (attributes["http.response.status_code"], attributes["error.type"]) == (200, code)
    assert told.status.status_code.name == "ERROR"


async def test_a_slow_request_is_told_of_beyond_the_bound(gateway: RunningGateway, spans: RecordedSpans) -> None:
    with spans.counting(slow_seconds=0):
        await gateway.http.get("/api/v1/agents")
    assert [span.name for span in _doors(spans)] == ["GET request"]
