"""Chat over a WebSocket."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from errand_common.telemetry import genai
from errand_common.testing.spans import RecordedSpans
from errand_gateway.testing.gateway import ADMIN_KEY, RunningGateway
from errand_gateway.transport.routes import chat_socket
from opentelemetry.trace import SpanKind
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from .test_admin import make_key

MINE = {"X-API-Key": ADMIN_KEY}


@contextlib.asynccontextmanager
async def opened(gateway: RunningGateway, **options: Any) -> AsyncIterator[ClientConnection]:
    """A connection; with the operator's key unless told otherwise."""
    url = gateway.url.replace("http://", "ws://") + "/api/v1/chat/socket"
    async with connect(url, **{"additional_headers": MINE, "proxy": None, **options}) as socket:
        yield socket


async def told(socket: ClientConnection) -> list[dict[str, Any]]:
    """Events up to the last of a run."""
    events = []
    async with asyncio.timeout(20):
        while not events or events[-1]["event"] not in ("ended", "error"):
            events.append(json.loads(await socket.recv()))
    return events


async def say(socket: ClientConnection, **message: Any) -> list[dict[str, Any]]:
    """A message and what is told of its run."""
    await socket.send(json.dumps(message))
    return await told(socket)


async def test_messages_one_after_the_other(gateway: RunningGateway) -> None:
    async with opened(gateway) as socket:
        events = await say(socket, message="hi")
        assert [event["id"] for event in events] == list(range(1, len(events) + 1))
        assert events[0]["event"] == "started"
        assert events[-1]["data"]["answer"] == "You said: hi"
        conversation = events[-1]["data"]["conversation_id"]
        again = await say(socket, message="and again", conversation_id=conversation)
        assert again[-1]["data"]["conversation_id"] == conversation
    streamed = await gateway.http.post("/api/v1/chat", json={"message": "hi"}, headers={"Accept": "text/event-stream"})
    names = [line.removeprefix("event: ") for line in streamed.text.splitlines() if line.startswith("event: ")]
    assert [event["event"] for event in events] == names


async def test_a_browser_names_its_token_as_a_protocol(gateway: RunningGateway) -> None:
    protocols = ["errand.v1", f"bearer.{ADMIN_KEY}"]
    async with opened(gateway, additional_headers={}, subprotocols=protocols) as socket:
        assert socket.subprotocol == "errand.v1"
        assert (await say(socket, message="hi"))[-1]["event"] == "ended"


@pytest.mark.parametrize("headers", [{}, {"X-API-Key": ADMIN_KEY[:-1] + "0"}, {"Authorization": "Basic x"}])
async def test_nobody_gets_in_without_a_key(gateway: RunningGateway, headers: dict[str, str]) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with opened(gateway, additional_headers=headers):
            pass
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body or b"")["code"] == "UNAUTHENTICATED"


async def test_a_key_that_may_not_run_agents(gateway: RunningGateway) -> None:
    viewer = await make_key(gateway, roles=["viewer"])
    with pytest.raises(InvalidStatus) as refused:
        async with opened(gateway, additional_headers={"X-API-Key": viewer["key"]}):
            pass
    assert refused.value.response.status_code == 403


async def test_what_is_wrong_is_told_and_the_connection_stays(gateway: RunningGateway) -> None:
    async with opened(gateway) as socket:
        for wrong in ("no json", "[]", '{"message": ""}', '{"message": "x", "unknown": 1}', '{"message": "\\u0000"}'):
            await socket.send(wrong)
            error = (await told(socket))[-1]
            assert (error["event"], error["data"]["code"]) == ("error", "INVALID_ARGUMENT")
            assert error["data"]["details"]["fields"]
        missing = await say(socket, message="hi", agent="nobody")
        assert missing[-1]["data"]["code"] == "NOT_FOUND"
        assert (await say(socket, message="hi"))[-1]["event"] == "ended"


async def test_a_fault_of_ours_is_told_without_its_text(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(chat_socket, "run_events", failing)
    async with opened(gateway) as socket:
        told_of_it = (await say(socket, message="hi"))[-1]
        assert (told_of_it["event"], told_of_it["data"]["code"]) == ("error", "INTERNAL")
        assert "secret" not in json.dumps(told_of_it)


async def test_a_run_can_be_cancelled_and_only_one_goes_on(gateway: RunningGateway) -> None:
    async with opened(gateway) as socket:
        await socket.send(json.dumps({"message": "slow"}))
        assert json.loads(await socket.recv())["event"] == "started"
        await socket.send(json.dumps({"message": "another"}))
        assert (await told(socket))[-1]["data"]["code"] == "CONFLICT"
        await socket.send(json.dumps({"cancel": True}))
        await asyncio.wait_for(gateway.backend.agent.was_cancelled.wait(), 10)
        assert (await say(socket, message="hi"))[-1]["data"]["answer"] == "You said: hi"


async def test_a_client_that_goes_away_cancels_its_run(gateway: RunningGateway) -> None:
    async with opened(gateway) as socket:
        await socket.send(json.dumps({"message": "slow"}))
        await socket.recv()
    await asyncio.wait_for(gateway.backend.agent.was_cancelled.wait(), 10)


async def test_a_revoked_key_is_put_out(gateway: RunningGateway) -> None:
    made = await make_key(gateway)
    async with opened(gateway, additional_headers={"X-API-Key": made["key"]}) as socket:
        assert (await say(socket, message="hi"))[-1]["event"] == "ended"
        await gateway.http.delete(f"/api/v1/admin/keys/{made['id']}")
        assert (await say(socket, message="hi"))[-1]["data"]["code"] == "UNAUTHENTICATED"
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 10)


async def test_every_message_is_paid_for_and_written_down(gateway: RunningGateway) -> None:
    # Who has been told the end may ask or leave at once, though the run is still being put away.
    gateway.backend.agent.linger_seconds = 0.3
    made = await make_key(gateway)
    async with opened(gateway, additional_headers={"X-API-Key": made["key"]}) as socket:
        for _ in range(2):
            assert (await say(socket, message="hi"))[-1]["event"] == "ended"
    async with asyncio.timeout(60):
        while True:
            audit = (await gateway.http.get("/api/v1/admin/audit?page_size=200")).json()["items"]
            mine = [row["event"] for row in audit if row["event"]["principal_id"] == made["id"]]
            if len(mine) == 2:
                break
            # Each look is an entry of its own, and the page holds the newest.
            await asyncio.sleep(0.5)
    assert [(event["method"], event["action"]) for event in mine] == [("WEBSOCKET", "runs:create")] * 2
    usage = (await gateway.http.get("/api/v1/usage?page_size=200")).json()["items"]
    assert [row["status"] for row in usage if row["key_id"] == made["id"]] == [200, 200]


async def test_a_message_that_is_too_large_ends_the_connection(gateway: RunningGateway) -> None:
    async with opened(gateway) as socket:
        with pytest.raises(ConnectionClosed):
            await say(socket, message="x" * 5 * 1024 * 1024)


async def test_every_message_is_a_trace_of_its_own(gateway: RunningGateway, spans: RecordedSpans) -> None:
    async with opened(gateway) as socket:
        for number in range(2):
            assert (await say(socket, message=f"hi {number}"))[-1]["event"] == "ended"
        await say(socket, message="hi", agent="nobody")
    roots = [span for span in spans.ended if span.kind is SpanKind.SERVER and span.name == "chat request"]
    assert len({span.context.trace_id for span in roots}) == 3
    asked = [str((span.attributes or {})[genai.MLFLOW_INPUTS]) for span in roots]
    assert ["hi 0" in asked[0], "hi 1" in asked[1]] == [True, True]
    calls = [span for span in spans.ended if span.name.endswith("/RunAgentStream") and span.kind is SpanKind.CLIENT]
    assert [span.context.trace_id for span in calls] == [span.context.trace_id for span in roots]
    statuses = [(span.attributes or {})["http.response.status_code"] for span in roots]
    assert statuses == [200, 200, 404]
    assert [span.status.status_code.name for span in roots] == ["UNSET", "UNSET", "UNSET"]
