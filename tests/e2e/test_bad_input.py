"""What must be refused, and how it is told."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import httpx
import pytest

from tests.e2e.conftest import Suite

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def _refused(response: httpx.Response, status: set[int], field: str = "") -> None:
    assert response.status_code in status, response.text
    body = response.json()
    assert {"code", "message", "request_id"} <= body.keys()
    assert field in str(body["details"]) + body["message"]


@pytest.mark.parametrize(
    "headers", [{"X-API-Key": "errand_unknown_aaaaaaaaaaaaaaaaaaaaaaaa"}, {"Authorization": "Bearer x"}, {}]
)
def test_an_unknown_key_is_401(suite: Suite, headers: dict[str, str]) -> None:
    response = httpx.post(f"{suite.url}/api/v1/chat", json={"message": "hi"}, headers=headers)
    _refused(response, {401})


def test_malformed_json_is_told(suite: Suite) -> None:
    headers = {"Content-Type": "application/json"}
    _refused(suite.http.post("/api/v1/chat", content=b'{"message": ', headers=headers), {400, 422})


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"message": "hi", "colour": 1}, "colour"),
        ({"message": ""}, "message"),
        ({"message": "x" * 40_000}, "message"),
        ({}, "message"),
    ],
    ids=["unknown field", "empty", "over-long", "missing"],
)
def test_wrong_fields_are_named(suite: Suite, body: dict[str, object], field: str) -> None:
    _refused(suite.http.post("/api/v1/chat", json=body), {400, 413, 422}, field)


def test_a_hundred_megabytes_are_refused_before_they_are_read(suite: Suite) -> None:
    parts = urlsplit(suite.url)
    request = (
        f"POST /api/v1/chat HTTP/1.1\r\nHost: {parts.netloc}\r\nX-API-Key: {suite.admin_key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 104857600\r\n\r\n"
    )
    with socket.create_connection((str(parts.hostname), int(parts.port or 80)), timeout=20) as connection:
        connection.sendall(request.encode())
        answer = connection.recv(4096).decode()
    assert " 413 " in answer.splitlines()[0]


@pytest.mark.parametrize("behaviour", ["fail", "hang", "flood"])
def test_a_tool_that_misbehaves_is_an_observation(suite: Suite, behaviour: str) -> None:
    name = f"check_{behaviour}_stock"
    tool = {
        "name": name,
        "description": f"Check the {behaviour} stock",
        "parameters": {"type": "object", "properties": {"item": {"type": "string"}}, "required": ["item"]},
        "side_effect": "none",
        "timeout_ms": 1500,
        "http": {"method": "GET", "url_template": f"{suite.target}/{behaviour}/{{item}}"},
    }
    assert suite.http.post("/api/v1/tools", json=tool).status_code in (200, 201)
    agent = {"name": f"{behaviour}_agent", "tools": [name]}
    assert suite.http.post("/api/v1/agents", json=agent).status_code in (200, 201)
    run = suite.chat(f"Check the {behaviour} stock with item lamp", agent=f"{behaviour}_agent")
    observed = [step for step in run["steps"] if step["kind"] == "observe"]
    assert observed, run["steps"]
    assert len(str(observed[0]["result"])) < 50_000
    if behaviour != "flood":
        assert "error" in observed[0]["result"]
