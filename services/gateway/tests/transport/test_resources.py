"""Runs, conversations, agents, tools, effects and feedback."""

import httpx
import pytest
from errand.tools.v1 import tools_pb2
from errand_common.db import new_id
from errand_common.principal import acting_as
from errand_common.testing.keys import principal
from errand_gateway.testing.gateway import RunningGateway

WEATHER = {
    "description": "Weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "http": {"method": "GET", "url_template": "https://weather.example.com/{city}"},
    "side_effect": "none",
}


def events(response: httpx.Response) -> list[tuple[str, str]]:
    """Ids and names of a stream's events."""
    found = []
    for block in response.text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in fields:
            found.append((fields.get("id", ""), fields["event"]))
    return found


@pytest.fixture
def name() -> str:
    return new_id("x").replace("_", "-")


async def test_run_in_the_background_is_started_listed_and_read(gateway: RunningGateway) -> None:
    started = await gateway.http.post("/api/v1/runs", json={"message": "hello"})
    run = started.json()
    assert started.status_code == 202
    assert run["state"] == "queued"
    assert started.headers["location"] == f"/api/v1/runs/{run['id']}"
    read = (await gateway.http.get(started.headers["location"])).json()
    assert (read["state"], read["stop_reason"], read["answer"]) == ("ended", "answer", "You said: hello")
    listed = await gateway.http.get("/api/v1/runs", params={"conversation_id": run["conversation_id"]})
    assert [item["id"] for item in listed.json()["items"]] == [run["id"]]
    none = await gateway.http.get(
        "/api/v1/runs", params={"conversation_id": run["conversation_id"], "state": "running"}
    )
    assert none.json() == {"items": [], "next_page_token": ""}


async def test_events_go_on_after_the_last_one_seen(gateway: RunningGateway) -> None:
    run = (await gateway.http.post("/api/v1/runs", json={"message": "hello"})).json()["id"]
    path = f"/api/v1/runs/{run}/events"
    everything = events(await gateway.http.get(path))
    rest = events(await gateway.http.get(path, headers={"Last-Event-ID": "3"}))
    assert [name for _, name in everything] == ["started", "delta", "step", "step", "delta", "ended"]
    assert rest == everything[3:]
    assert (await gateway.http.get("/api/v1/runs/run_nobody/events")).status_code == 404
    assert (await gateway.http.get(path, headers={"Last-Event-ID": "abc"})).status_code == 422


async def test_run_is_cancelled(gateway: RunningGateway) -> None:
    run = (await gateway.http.post("/api/v1/runs", json={"message": "slow"})).json()["id"]
    cancelled = (await gateway.http.post(f"/api/v1/runs/{run}/cancel")).json()
    assert (cancelled["state"], cancelled["stop_reason"]) == ("ended", "cancelled")


async def test_conversation_is_made_listed_and_deleted(gateway: RunningGateway) -> None:
    made = await gateway.http.post("/api/v1/conversations", json={"title": "Travel"})
    conversation = made.json()
    assert (made.status_code, conversation["title"], conversation["agent"]) == (201, "Travel", "default")
    path = f"/api/v1/conversations/{conversation['id']}"
    assert (await gateway.http.get(path)).json()["id"] == conversation["id"]
    newest = (await gateway.http.get("/api/v1/conversations", params={"page_size": 1})).json()
    assert newest["items"][0]["id"] == conversation["id"]
    assert (await gateway.http.delete(path)).status_code == 204
    assert (await gateway.http.get(path)).status_code == 404


async def test_agent_is_replaced_only_at_the_version_seen(gateway: RunningGateway, name: str) -> None:
    made = await gateway.http.post("/api/v1/agents", json={"name": name, "tools": ["calculator"]})
    assert (made.status_code, made.headers["etag"]) == (201, '"1"')
    path = f"/api/v1/agents/{name}"
    change = {"description": "Counts."}
    second = await gateway.http.put(path, json=change, headers={"If-Match": '"1"'})
    assert (second.status_code, second.headers["etag"], second.json()["tools"]) == (200, '"2"', [])
    late = await gateway.http.put(path, json=change, headers={"If-Match": '"1"'})
    assert (late.status_code, late.json()["code"]) == (412, "CONFLICT")
    nonsense = await gateway.http.put(path, json=change, headers={"If-Match": "x"})
    assert nonsense.json()["details"]["fields"][0]["field"] == "If-Match"
    again = await gateway.http.post("/api/v1/agents", json={"name": name})
    assert (again.status_code, again.json()["code"]) == (409, "ALREADY_EXISTS")
    assert (await gateway.http.delete(path)).status_code == 204
    assert (await gateway.http.get(path)).status_code == 404
    assert (await gateway.http.delete("/api/v1/agents/default")).status_code == 409


async def test_tool_is_registered_turned_off_and_removed(gateway: RunningGateway, name: str) -> None:
    made = await gateway.http.post("/api/v1/tools", json={"name": name, **WEATHER})
    assert made.status_code == 201
    assert made.json()["kind"] == "http"
    assert made.json()["parameters"] == WEATHER["parameters"]
    path = f"/api/v1/tools/{name}"
    assert (await gateway.http.patch(path, json={"enabled": False})).json()["enabled"] is False
    enabled = (await gateway.http.get("/api/v1/tools", params={"enabled_only": True})).json()
    assert name not in [tool["name"] for tool in enabled["items"]]
    assert enabled["items"][0]["name"] == "calculator"
    assert (await gateway.http.delete(path)).status_code == 204
    assert (await gateway.http.get(path)).status_code == 404


async def test_tool_schema_has_a_bound(gateway: RunningGateway, name: str) -> None:
    body = {"name": name, **WEATHER, "parameters": {"x": "y" * 70_000}}
    response = await gateway.http.post("/api/v1/tools", json=body)
    assert response.status_code == 422
    assert response.json()["details"]["fields"][0]["field"] == "parameters"


async def test_effect_is_settled_once(gateway: RunningGateway, name: str) -> None:
    with acting_as(principal()):
        gateway.backend.tools.add_effect(
            tools_pb2.Effect(id=name, run_id="run_1", step=1, tool_name="mail", state=tools_pb2.EFFECT_STATE_UNSETTLED)
        )
    listed = (await gateway.http.get("/api/v1/effects", params={"state": "unsettled", "run_id": "run_1"})).json()
    assert name in [effect["id"] for effect in listed["items"]]
    settled = await gateway.http.post(f"/api/v1/effects/{name}/settle", json={"result": {"sent": True}})
    assert (settled.json()["state"], settled.json()["status"]) == ("completed", "succeeded")
    again = await gateway.http.post(f"/api/v1/effects/{name}/settle", json={"result": None})
    assert again.status_code == 409


async def test_feedback_is_taken(gateway: RunningGateway) -> None:
    run = (await gateway.http.post("/api/v1/chat", json={"message": "hello"})).json()["run_id"]
    body = {"run_id": run, "helpful": True, "comment": "Well done."}
    assert (await gateway.http.post("/api/v1/feedback", json=body)).status_code == 204
    body["run_id"] = "run_nobody"
    assert (await gateway.http.post("/api/v1/feedback", json=body)).status_code == 404


async def test_an_ended_run_goes_on_from_a_step(gateway: RunningGateway) -> None:
    run = (await gateway.http.post("/api/v1/runs", json={"message": "hello"})).json()
    body = {"from_model_step": 1, "instructions": "Be brief.", "model": "tiny"}
    forked = await gateway.http.post(f"/api/v1/runs/{run['id']}/fork", json=body)
    assert forked.status_code == 202, forked.text
    assert (forked.json()["forked_from"], forked.json()["answer"]) == (run["id"], "You said: hello")
    assert forked.headers["location"] == f"/api/v1/runs/{forked.json()['id']}"
    assert (await gateway.http.post(f"/api/v1/runs/{run['id']}/fork", json={})).status_code == 422
    assert (await gateway.http.post(f"/api/v1/runs/{run['id']}/redrive")).status_code == 409


async def test_dead_letters_are_listed_and_redriven(gateway: RunningGateway) -> None:
    run = (await gateway.http.post("/api/v1/runs", json={"message": "fail once"})).json()
    listed = await gateway.http.get("/api/v1/runs?stop_reason=unavailable&stop_reason=internal&agent=default")
    assert run["id"] in [row["id"] for row in listed.json()["items"]]
    assert {row["stop_reason"] for row in listed.json()["items"]} == {"unavailable"}
    redriven = await gateway.http.post(f"/api/v1/runs/{run['id']}/redrive")
    assert (redriven.status_code, redriven.json()["stop_reason"]) == (202, "answer")


async def test_conversations_are_found_renamed_and_archived(gateway: RunningGateway, name: str) -> None:
    made = (await gateway.http.post("/api/v1/conversations", json={"title": f"Trip {name}"})).json()
    path = f"/api/v1/conversations/{made['id']}"

    async def found(**query: object) -> list[str]:
        answer = await gateway.http.get("/api/v1/conversations", params={"query": name.upper(), **query})
        return [row["title"] for row in answer.json()["items"]]

    assert await found() == [f"Trip {name}"]
    changed = await gateway.http.patch(path, json={"title": f"Oslo {name}", "archived": True})
    assert (changed.json()["title"], changed.json()["archived"]) == (f"Oslo {name}", True)
    assert await found() == []
    assert await found(include_archived=True) == [f"Oslo {name}"]
    assert (await gateway.http.patch(path, json={"archived": False})).json()["title"] == f"Oslo {name}"
    assert (await gateway.http.patch(path, json={"title": " "})).status_code == 422


async def test_an_agent_keeps_all_of_its_definition(gateway: RunningGateway, name: str) -> None:
    definition = {
        "description": "Leads.", "instructions": "Be brief.", "model": "tiny", "tools": ["calculator"],
        "collections": ["handbook"], "max_steps": 4, "max_tokens": 1000, "max_seconds": 30, "max_errors": 2,
        "max_cost_micros": 500, "max_shown_tools": 8, "agents": ["helper"], "fallback_models": ["larger"],
        "temperature": 0.3, "prompt": "tone@live",
    }  # fmt: skip
    made = await gateway.http.post("/api/v1/agents", json={"name": name, **definition})
    assert made.json() == {"name": name, **definition, "version": 1, "is_default": False}
    assert (await gateway.http.post("/api/v1/agents", json={"name": "x", "temperature": 3})).status_code == 422
