"""Schedules, and runs that begin later, through the door."""

from typing import Any

import pytest
from errand.agent.v1 import agent_pb2
from errand_common.db import new_id
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import RunningGateway

from .test_admin import make_key

SCHEDULE = {
    "cron": "0 7 * * mon-fri", "time_zone": "Europe/Berlin", "message": "What is new?", "agent": "default",
    "conversation_id": "conv_1", "priority": "low", "paused": False,
}  # fmt: skip


async def test_a_schedule_is_made_read_and_removed(gateway: RunningGateway) -> None:
    name = new_id("sched").replace("_", "-")
    path = f"/api/v1/schedules/{name}"
    made = await gateway.http.put(path, json=SCHEDULE)
    assert made.status_code == 200, made.text
    assert {key: made.json()[key] for key in SCHEDULE} == SCHEDULE
    assert made.json()["next_at"]
    assert (await gateway.http.get(path)).json() == made.json()
    assert name in [row["name"] for row in (await gateway.http.get("/api/v1/schedules")).json()["items"]]
    assert (await gateway.http.put(path, json={**SCHEDULE, "paused": True})).json()["next_at"] is None
    assert (await gateway.http.delete(path)).status_code == 204
    assert (await gateway.http.get(path)).status_code == 404


@pytest.mark.parametrize(
    "change",
    [
        {"cron": "0 7 * *"},
        {"cron": "99 7 * * *"},
        {"message": " "},
        {"priority": "urgent"},
        {"time_zone": "a b"},
        {"next_at": "2026-01-01T00:00:00Z"},
    ],
)
async def test_wrong_schedules_are_refused(gateway: RunningGateway, change: dict[str, Any]) -> None:
    refused = await gateway.http.put("/api/v1/schedules/wrong", json={**SCHEDULE, **change})
    assert refused.status_code == 422, refused.text
    assert (await gateway.http.get("/api/v1/schedules/wrong")).status_code == 404


async def test_who_only_uses_agents_makes_no_schedules(gateway: RunningGateway) -> None:
    key = await make_key(gateway, roles=["user"])
    async with gateway.client(key["key"]) as http:
        assert (await http.put("/api/v1/schedules/mine", json=SCHEDULE)).status_code == 403


async def test_a_run_is_told_when_to_begin(gateway: RunningGateway, backend: FakeBackend) -> None:
    body = {
        "message": "later", "priority": "high", "start_at": "2999-01-01T00:00:00+02:00", "when_busy": "queue",
    }  # fmt: skip
    assert (await gateway.http.post("/api/v1/runs", json=body)).status_code == 202
    assert (await gateway.http.post("/api/v1/chat", json={"message": "now"})).status_code == 200
    later, now = backend.agent.requests
    assert (later.priority, later.when_busy) == (agent_pb2.RUN_PRIORITY_HIGH, agent_pb2.WHEN_BUSY_QUEUE)
    assert later.start_at.ToJsonString() == "2998-12-31T22:00:00Z"
    assert not now.HasField("start_at")
    assert (await gateway.http.post("/api/v1/chat", json=body)).status_code == 422
    assert (await gateway.http.post("/api/v1/runs", json={**body, "start_at": "tomorrow"})).status_code == 422
