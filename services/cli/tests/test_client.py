"""The thin client against an HTTP server that it does not know."""

import json
from pathlib import Path

import httpx
import pytest
import respx
from errand_cli.client import ApiError, Client

_URL = "http://gateway"


@respx.mock
def test_events_are_read_as_they_come() -> None:
    stream = (
        'event: started\nid: 1\ndata: {"run_id": "r"}\n\n: heartbeat\n\nevent: ended\nid: 2\ndata: {"answer": "42"}\n\n'
    )
    route = respx.post(f"{_URL}/api/v1/chat").mock(return_value=httpx.Response(200, text=stream))
    events = list(Client(_URL, "key").chat("What?", agent="a", conversation_id="c"))
    assert events == [("started", {"run_id": "r"}), ("ended", {"answer": "42"})]
    request = route.calls.last.request
    assert json.loads(request.content) == {"message": "What?", "agent": "a", "conversation_id": "c"}
    assert request.headers["X-API-Key"] == "key"


@respx.mock
def test_an_error_is_told_in_the_gateway_s_words() -> None:
    body = {"code": "RATE_LIMIT", "message": "slow down", "details": {}, "request_id": "r"}
    respx.post(f"{_URL}/api/v1/chat").mock(return_value=httpx.Response(429, json=body))
    with pytest.raises(ApiError, match="RATE_LIMIT: slow down"):
        list(Client(_URL, "key").chat("What?"))
    respx.get(f"{_URL}/api/v1/x").mock(return_value=httpx.Response(502, text="<html>"))
    with pytest.raises(ApiError, match="HTTP 502"):
        Client(_URL, "key").get("/api/v1/x")


@respx.mock
def test_a_collection_is_made_only_when_it_is_missing(tmp_path: Path) -> None:
    respx.get(f"{_URL}/api/v1/collections/notes").mock(side_effect=[httpx.Response(404), httpx.Response(200, json={})])
    made = respx.post(f"{_URL}/api/v1/collections").mock(return_value=httpx.Response(201, json={}))
    client = Client(_URL, "key")
    client.ensure_collection("notes")
    client.ensure_collection("notes")
    assert made.call_count == 1
    uploaded = respx.post(f"{_URL}/api/v1/collections/notes/documents").mock(
        return_value=httpx.Response(201, json={"document": {"id": "d"}})
    )
    file = tmp_path / "a.txt"
    file.write_text("hello")
    assert client.upload("notes", file) == {"document": {"id": "d"}}
    assert b'filename="a.txt"' in uploaded.calls.last.request.content
