"""Logs of the running suite: one request's lines in every service share its id, and none holds a secret."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Suite
from tests.e2e.traces import traces_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SERVICES = ("gateway", "agent", "inference", "rag", "tools")
CANARY = "canary7391"
E_MAIL = f"{CANARY}.lovelace@example.org"
PROVIDER_KEY = f"sk-{CANARY}abcdefghijklmnop"


def _lines(suite: Suite, name: str) -> list[str]:
    return (suite.data_dir / "logs" / f"{name}.log").read_text(errors="replace").splitlines()


def _events(suite: Suite, name: str) -> list[dict[str, Any]]:
    """The service's records; what is no JSON is no record."""
    return [json.loads(line) for line in _lines(suite, name) if line.startswith("{")]


def _switch(suite: Suite) -> None:
    """Debug lines in every service, or none any more."""
    before = {name: len(_lines(suite, name)) for name in SERVICES}
    for name, service in suite.status().items():
        if name in SERVICES:
            os.kill(int(service["pid"]), signal.SIGUSR1)
    until = time.monotonic() + 30
    waiting = set(SERVICES)
    while waiting and time.monotonic() < until:
        waiting = {
            name for name in waiting if "log level changed" not in "\n".join(_lines(suite, name)[before[name] :])
        }
        time.sleep(0.1)
    assert not waiting


@pytest.fixture(scope="module")
def debugging(suite: Suite) -> Iterator[None]:
    _switch(suite)
    yield
    _switch(suite)


@pytest.mark.usefixtures("debugging")
def test_one_request_s_lines_share_its_id_in_every_service(suite: Suite) -> None:
    response = suite.http.post(
        "/api/v1/chat", json={"message": "What is 12 * 12?"}, headers={"X-Request-ID": "req_log_canary_1"}
    )
    assert response.status_code == 200
    for name in ("agent", "inference", "tools", "rag"):
        own = [event for event in _events(suite, name) if event.get("request_id") == "req_log_canary_1"]
        assert own, f"{name} has no line of the request"
        assert {event["service"] for event in own} == {name}
        assert {event["tenant_id"] for event in own} == {"default"}
        assert all(len(event["trace_id"]) == 32 for event in own)
    traces = {
        event["trace_id"]
        for name in ("agent", "inference", "tools")
        for event in _events(suite, name)
        if event.get("request_id") == "req_log_canary_1"
    }
    assert len(traces) == 1


def _leave_canaries(suite: Suite) -> str:
    """Secrets wherever people put them; gives a run's id."""
    made = suite.http.post("/api/v1/admin/keys", json={"name": "canary", "roles": ["user"]})
    assert made.status_code == 201, made.text
    with httpx.Client(base_url=suite.url, headers={"X-API-Key": made.json()["key"]}, timeout=60) as client:
        client.get("/api/v1/agents")
        client.get(f"/api/v1/runs/run_unknown?api_key={CANARY}secretvalue")
    with httpx.Client(base_url=suite.url, timeout=60) as stranger:
        for headers in ({"X-API-Key": f"errand_{CANARY}_abcdefghijklmnopqrst"}, {"Authorization": f"Bearer {CANARY}x"}):
            assert stranger.get("/api/v1/agents", headers=headers).status_code == 401
        assert stranger.post("/v1/chat/completions", content=f'{{"key": "{PROVIDER_KEY}"').status_code in (400, 401)
    run = suite.chat(f"My address is {E_MAIL}, my key {PROVIDER_KEY}. What is 12 * 12?")
    suite.chat(f"Fetch http://user:{CANARY}@10.0.0.1/secret")
    suite.http.post("/api/v1/facts", json={"text": f"Write to {E_MAIL}."})
    suite.http.post("/api/v1/search", json={"query": f"password={CANARY}"})
    return str(run["run_id"])


@pytest.mark.usefixtures("debugging")
def test_no_secret_stands_in_any_log_or_trace(suite: Suite) -> None:
    run_id = _leave_canaries(suite)
    time.sleep(1)
    for name in (*SERVICES, "supervisor"):
        found = [line[:300] for line in _lines(suite, name) if CANARY in line]
        assert not found, f"{name}: {found[:3]}"
        assert not [line[:300] for line in _lines(suite, name) if suite.admin_key in line]
    trace = traces_of(suite, [run_id])[run_id]
    told = json.dumps([[span.inputs, span.outputs, span.attributes] for span in trace.data.spans], default=str)
    assert CANARY not in told
    assert "My address is ***" in told
