"""The root of a request's trace."""

import pytest
from errand_common.telemetry import genai
from errand_common.testing.spans import RecordedSpans
from errand_gateway.testing.gateway import RunningGateway

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


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
    calls = [span for span in spans.ended if span.name.startswith("errand.agent.v1.AgentService/")]
    assert {span.context.trace_id for span in calls} == {root.context.trace_id}


async def test_the_callers_trace_is_linked_and_not_continued(gateway: RunningGateway, spans: RecordedSpans) -> None:
    await gateway.http.post("/api/v1/chat", json={"message": "hello"}, headers={"traceparent": CALLER})
    root = spans.story()["chat request"]
    assert [f"{link.context.trace_id:032x}" for link in root.links] == [CALLER.split("-")[1]]
    assert f"{root.context.trace_id:032x}" != CALLER.split("-")[1]


async def test_probes_are_not_traced(gateway: RunningGateway, spans: RecordedSpans) -> None:
    await gateway.http.get("/healthz")
    assert not [span for span in spans.ended if "request" in span.name]
