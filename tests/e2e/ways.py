"""Every way to ask the suite: at once or as a stream, in the background, through agents and people, with failures."""

from __future__ import annotations

from collections.abc import Callable

from tests.e2e.conftest import Suite
from tests.e2e.told import MODEL

STREAM = {"Accept": "text/event-stream"}
QUESTIONS = ("What time is it in Lima?", "Convert 3 miles to kilometers", "Hello!", "What is 12 * 12?")


def chat(suite: Suite, number: int) -> str:
    """A question and its answer."""
    return str(suite.chat(QUESTIONS[number % len(QUESTIONS)])["run_id"])


def stream(suite: Suite, number: int) -> str:
    """An answer as it comes."""
    body = {"message": QUESTIONS[number % len(QUESTIONS)]}
    with suite.http.stream("POST", "/api/v1/chat", json=body, headers=STREAM) as response:
        return _run_id(response.read().decode())


def _run_id(events: str) -> str:
    return events.partition('"run_id":"')[2].partition('"')[0]


def tool_fails(suite: Suite, number: int) -> str:
    """A tool that cannot, or may not."""
    return str(suite.chat(("What is 10 / 0?", "Fetch http://10.0.0.1/secret")[number % 2])["run_id"])


def follow_up(suite: Suite, number: int) -> str:
    """The second message of a conversation."""
    first = suite.chat("What time is it in Oslo?")
    return str(suite.chat("What is 2 + 3?", conversation_id=first["conversation_id"])["run_id"])


def _started(suite: Suite) -> str:
    started = suite.http.post("/api/v1/runs", json={"message": QUESTIONS[0]})
    assert started.is_success, started.text
    return str(started.json()["id"])


def resume(suite: Suite, number: int) -> str:
    """A run in the background, its events read in two parts."""
    run_id = _started(suite)
    with suite.http.stream("GET", f"/api/v1/runs/{run_id}/events", headers=STREAM) as response:
        seen = next(line for line in response.iter_lines() if line.startswith("id:"))
    headers = {**STREAM, "Last-Event-ID": seen.removeprefix("id:").strip()}
    with suite.http.stream("GET", f"/api/v1/runs/{run_id}/events", headers=headers) as response:
        assert "event: ended" in response.read().decode()
    return run_id


def cancel(suite: Suite, number: int) -> str:
    """A run in the background that is stopped."""
    run_id = _started(suite)
    assert suite.http.post(f"/api/v1/runs/{run_id}/cancel").is_success
    return run_id


def leave(suite: Suite, number: int) -> str:
    """A client that goes away in the middle of its stream."""
    with suite.http.stream("POST", "/api/v1/chat", json={"message": QUESTIONS[0]}, headers=STREAM) as response:
        return _run_id(next(line for line in response.iter_lines() if line.startswith("data:")))


def called(suite: Suite, number: int) -> str:
    """An agent asks another one, whose run is a run of its own; by both ways to ask."""
    body = {"message": "delegate it", "agent": "lead"}
    if number % 20 == 8:
        run = suite.chat(**body)
        assert "42" in run["answer"], run
        return str(run["run_id"])
    with suite.http.stream("POST", "/api/v1/chat", json=body, headers=STREAM) as response:
        events = response.read().decode()
    assert "42" in events
    return _run_id(events)


def waiting(suite: Suite) -> str:
    """A run that ended its turn and waits for a person."""
    run = suite.chat("how much stock", agent="keeper")
    assert run["stop_reason"] == "needs_approval", run
    return str(run["run_id"])


def decide(suite: Suite, run_id: str, decision: str) -> None:
    """The person's word; returns when the run that goes on has ended."""
    [asked] = suite.http.get("/api/v1/approvals", params={"run_id": run_id}).json()["items"]
    decided = suite.http.post(f"/api/v1/approvals/{asked['id']}/{decision}", json={"reason": "so be it"})
    assert decided.is_success, decided.text
    with suite.http.stream("GET", f"/api/v1/runs/{run_id}/events", headers=STREAM) as response:
        assert "event: ended" in response.read().decode()


def approved(suite: Suite, number: int) -> str:
    """A run that a person lets go on, or not."""
    run_id = waiting(suite)
    decide(suite, run_id, "refuse" if number % 20 == 9 else "approve")
    return run_id


WAYS: tuple[Callable[[Suite, int], str], ...] = (
    chat,
    stream,
    tool_fails,
    follow_up,
    resume,
    chat,
    cancel,
    leave,
    called,
    approved,
)
"""Each takes its number, which varies what it asks, and gives the run's id."""


def make_agents(suite: Suite) -> None:
    """One that asks another, which counts; one whose tool asks people."""
    stock = {"name": "stock", "description": "Counts.", "policy": "ask", "side_effect": "none"}
    made = {"tools": [stock | {"http": {"method": "GET", "url_template": f"{suite.target}/stock"}}]}
    made["agents"] = [
        {"name": "helper", "model": MODEL, "tools": ["calculator"]},
        {"name": "lead", "model": MODEL, "agents": ["helper"]},
        {"name": "keeper", "model": MODEL, "tools": ["stock"]},
    ]
    for path, bodies in made.items():
        for body in bodies:
            response = suite.http.post(f"/api/v1/{path}", json=body)
            assert response.status_code == 201, response.text
