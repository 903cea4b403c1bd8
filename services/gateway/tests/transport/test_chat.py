"""Chat: the answer, the stream, what is refused, what happens when somebody goes away."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from errand_common.errors import Overloaded
from errand_gateway.testing.gateway import ADMIN_KEY, RunningGateway


def read_events(text: str) -> list[dict[str, Any]]:
    """The events of a stream's text."""
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if "data" in fields:
            events.append({**fields, "data": json.loads(fields["data"])})
    return events


async def test_answer_has_steps_usage_and_ids(gateway: RunningGateway) -> None:
    response = await gateway.http.post("/api/v1/chat", json={"message": "six times seven"})
    body = response.json()
    assert response.status_code == 200
    assert body["answer"] == "You said: six times seven"
    assert [step["kind"] for step in body["steps"]] == ["act", "observe"]
    assert body["steps"][0]["arguments"] == {"expression": "6 * 7"}
    assert body["steps"][1]["result"] == {"result": 42}
    assert body["stop_reason"] == "answer"
    assert body["usage"] == {"prompt_tokens": 20, "completion_tokens": 5, "cached_tokens": 0}
    assert body["citations"] == []
    assert body["run_id"].startswith("run_")
    assert body["conversation_id"].startswith("conv_")


async def test_conversation_goes_on(gateway: RunningGateway) -> None:
    first = (await gateway.http.post("/api/v1/chat", json={"message": "one"})).json()
    again = {"message": "two", "conversation_id": first["conversation_id"]}
    second = (await gateway.http.post("/api/v1/chat", json=again)).json()
    assert second["conversation_id"] == first["conversation_id"]
    messages = (await gateway.http.get(f"/api/v1/conversations/{first['conversation_id']}/messages")).json()
    assert [message["text"] for message in messages["items"]] == ["one", "You said: one", "two", "You said: two"]


async def test_stream_numbers_its_events_and_ends_with_the_answer(gateway: RunningGateway) -> None:
    response = await gateway.http.post(
        "/api/v1/chat", json={"message": "hello"}, headers={"Accept": "text/event-stream"}
    )
    events = read_events(response.text)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert [event["event"] for event in events] == ["started", "delta", "step", "step", "delta", "ended"]
    assert [int(event["id"]) for event in events] == [1, 2, 3, 4, 5, 6]
    assert events[-1]["data"]["answer"] == "You said: hello"
    assert events[-1]["data"]["run_id"] == events[0]["data"]["run_id"]


async def test_failure_before_the_first_event_has_its_own_status(gateway: RunningGateway) -> None:
    gateway.backend.agent.fail_with = Overloaded("the queue is full", retry_after_seconds=2)
    response = await gateway.http.post(
        "/api/v1/chat", json={"message": "hello"}, headers={"Accept": "text/event-stream"}
    )
    assert response.status_code == 429
    assert response.json()["code"] == "OVERLOADED"


async def test_failure_on_the_way_is_the_last_event(gateway: RunningGateway) -> None:
    gateway.backend.agent.break_with = Overloaded("the queue is full", retry_after_seconds=2)
    response = await gateway.http.post(
        "/api/v1/chat", json={"message": "hello"}, headers={"Accept": "text/event-stream"}
    )
    events = read_events(response.text)
    assert [event["event"] for event in events] == ["started", "delta", "error"]
    assert events[-1]["data"]["code"] == "OVERLOADED"


async def test_overload_is_a_429_that_says_when_to_come_back(gateway: RunningGateway) -> None:
    gateway.backend.agent.fail_with = Overloaded("the queue is full", retry_after_seconds=2.4)
    response = await gateway.http.post("/api/v1/chat", json={"message": "hello"})
    assert response.status_code == 429
    assert response.headers["retry-after"] == "3"
    assert response.json()["code"] == "OVERLOADED"


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_client_that_goes_away_cancels_its_run(gateway: RunningGateway, accept: str) -> None:
    with pytest.raises(httpx.ReadTimeout):
        async with (
            gateway.client(ADMIN_KEY) as http,
            http.stream(
                "POST", "/api/v1/chat", json={"message": "slow"}, headers={"Accept": accept}, timeout=0.5
            ) as response,
        ):
            await response.aread()
    async with asyncio.timeout(5):
        await gateway.backend.agent.was_cancelled.wait()


async def test_same_idempotency_key_gives_the_same_run(gateway: RunningGateway) -> None:
    headers = {"Idempotency-Key": "order-17"}
    first = await gateway.http.post("/api/v1/chat", json={"message": "hi"}, headers=headers)
    second = await gateway.http.post("/api/v1/chat", json={"message": "hi"}, headers=headers)
    assert first.json()["run_id"] == second.json()["run_id"]


async def test_unknown_agent_is_not_found(gateway: RunningGateway) -> None:
    response = await gateway.http.post("/api/v1/chat", json={"message": "hi", "agent": "nobody"})
    assert response.status_code == 404
    assert response.json()["details"] == {"resource": "agent", "id": "nobody"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"message": ""}, "message"),
        ({"message": "   "}, "message"),
        ({"message": "x" * 32_769}, "message"),
        ({"message": "a\x00b"}, "message"),
        ({"message": 7}, "message"),
        ({}, "message"),
        ({"message": "hi", "extra": 1}, "extra"),
        ({"message": "hi", "conversation_id": "../x"}, "conversation_id"),
    ],
)
async def test_bad_field_is_named(gateway: RunningGateway, body: dict[str, Any], field: str) -> None:
    response = await gateway.http.post("/api/v1/chat", json=body)
    assert response.status_code == 422
    assert response.json()["code"] == "INVALID_ARGUMENT"
    assert [problem["field"] for problem in response.json()["details"]["fields"]] == [field]
    assert gateway.backend.agent.requests == []


@pytest.mark.parametrize(
    "content",
    [b"{", b"", b'{"message": "hi"', b"\xff\xfe", b'{"message": "hi"}x', b"[" * 100_000],
    ids=["cut", "empty", "open", "not-utf8", "more", "deep"],
)
async def test_malformed_json_is_refused(gateway: RunningGateway, content: bytes) -> None:
    response = await gateway.http.post("/api/v1/chat", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code in {400, 422}
    assert response.json()["code"] == "INVALID_ARGUMENT"
    assert response.json()["details"]["fields"][0]["field"] == "body"


async def test_lone_surrogate_is_refused(gateway: RunningGateway) -> None:
    response = await gateway.http.post(
        "/api/v1/chat", content=b'{"message": "\\ud800"}', headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 422


async def test_other_media_type_is_refused(gateway: RunningGateway) -> None:
    response = await gateway.http.post("/api/v1/chat", content=b"message=hi", headers={"Content-Type": "text/plain"})
    assert response.status_code == 415
    assert response.json()["code"] == "UNSUPPORTED_MEDIA_TYPE"
