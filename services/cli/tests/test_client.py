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


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (httpx.ConnectError("[Errno 111] Connection refused"), "cannot be reached .*Connection refused"),
        (httpx.ConnectError("certificate verify failed"), "cannot be reached .*certificate verify failed"),
        (httpx.ReadTimeout(""), "did not answer in time"),
        (httpx.RemoteProtocolError("Server disconnected"), "Server disconnected"),
        (httpx.Response(200, text="<html>"), "is no gateway"),
        (httpx.Response(200, json=[]), "is no gateway"),
        (httpx.Response(503, text="upstream"), "HTTP 503"),
        (httpx.Response(308, headers={"location": "https://gateway/"}), "HTTP 308 .*which is at https://gateway/"),
    ],
)
@respx.mock
def test_a_gateway_that_does_not_answer_as_one_is_named(
    fault: httpx.Response | Exception, told: str, tmp_path: Path
) -> None:
    respx.route().mock(side_effect=lambda _: _raised(fault))
    client = Client(_URL, "key")
    file = tmp_path / "a.txt"
    file.touch()
    for call in (
        lambda: client.get("/x"),
        lambda: client.post("/x", {}),
        lambda: client.patch("/x", {}),
        lambda: client.delete("/x"),
        lambda: list(client.pages("/x")),
        lambda: client.ensure_collection("notes"),
        lambda: client.upload("notes", file),
    ):
        with pytest.raises(ApiError, match=told):
            call()


def _raised(fault: httpx.Response | Exception) -> httpx.Response:
    if isinstance(fault, Exception):
        raise fault
    return fault


@respx.mock
def test_a_stream_that_breaks_off_is_told() -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("connection reset", request=request)

    respx.post(f"{_URL}/api/v1/chat").mock(side_effect=broken)
    with pytest.raises(ApiError, match="connection reset"):
        list(Client(_URL, "key").chat("What?"))


@pytest.mark.parametrize(("url", "key"), [("http://[", "key"), ("localhost:8080", "key"), (_URL, "a\nb"), (_URL, "é")])
def test_an_address_or_a_key_that_is_none(url: str, key: str) -> None:
    with pytest.raises(ApiError, match=r"is the address right|copied whole") as refused:
        Client(url, key).get("/x")
    assert key == "key" or key not in str(refused.value)


@respx.mock
def test_names_of_collections_are_names_and_no_paths() -> None:
    asked = respx.get(f"{_URL}/api/v1/collections/a%2F..%2Fb%3F").mock(return_value=httpx.Response(200, json={}))
    Client(_URL, "key").ensure_collection("a/../b?")
    assert asked.called
