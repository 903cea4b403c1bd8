"""Workflows through the door."""

from typing import Any

import pytest
from errand_common.db import new_id
from errand_gateway.testing.gateway import RunningGateway

from .test_admin import make_key
from .test_quotas import tenant_with_quota, until_booked

NODES: list[dict[str, Any]] = [
    {"id": "topics", "agent": {"message": "Topics of {{ input }}"}},
    {
        "id": "research",
        "needs": ["topics"],
        "when": {"node": "topics", "contains": "a", "negate": True},
        "map": {"each": {"agent": "default", "message": "{{ item }}"}, "items_from": "topics", "max_items": 4},
    },
    {
        "id": "polish",
        "needs": ["research"],
        "loop": {"body": {"message": "{{ previous }}"}, "until_contains": "good", "max_rounds": 2},
    },
    {"id": "report", "needs": ["polish"], "join": {"output": "{{ polish }}"}},
]
WORKFLOW = {"description": "Reports.", "nodes": NODES, "max_tokens": 1000, "max_seconds": 60}


async def test_a_workflow_is_kept_as_it_was_defined(gateway: RunningGateway) -> None:
    path = f"/api/v1/workflows/{new_id('flow').replace('_', '-')}"
    made = await gateway.http.put(path, json=WORKFLOW)
    assert (made.status_code, made.headers["etag"]) == (200, '"1"'), made.text
    read = (await gateway.http.get(path)).json()
    assert read == made.json()
    for given, kept in zip(NODES, read["nodes"], strict=True):
        assert {key: value for key, value in kept.items() if value} == _filled(given)
    assert (await gateway.http.put(path, json=WORKFLOW, headers={"If-Match": '"7"'})).status_code == 412
    replaced = await gateway.http.put(path, json=WORKFLOW, headers={"If-Match": '"1"'})
    assert replaced.headers["etag"] == '"2"'
    assert read["name"] in [row["name"] for row in (await gateway.http.get("/api/v1/workflows")).json()["items"]]
    assert (await gateway.http.delete(path)).status_code == 204
    assert (await gateway.http.get(path)).status_code == 404


def _filled(node: dict[str, Any]) -> dict[str, Any]:
    """The node with what its agent leaves out."""
    body = {
        key: ({"agent": "", **value} if key == "agent" else dict(value) if isinstance(value, dict) else value)
        for key, value in node.items()
    }
    if "loop" in body:
        body["loop"]["body"] = {"agent": "", **body["loop"]["body"]}
    return body


async def test_a_run_is_followed_and_what_it_used_is_booked(gateway: RunningGateway) -> None:
    async with tenant_with_quota(gateway, 100_000) as (http, quota_id):
        assert (await http.put("/api/v1/workflows/report", json=WORKFLOW)).is_success
        started = await http.post("/api/v1/workflows/report/runs", json={"input": "pumps"})
        assert (started.status_code, started.json()["state"]) == (202, "running")
        await until_booked(http, quota_id, 30)
        run = (await http.get(started.headers["location"])).json()
        assert (run["state"], run["output"]) == ("completed", "Report on pumps")
        assert run["nodes"] == [{"id": "writing", "state": "done", "output": "Report on pumps", "run_ids": ["run_1"]}]
        listed = (await http.get("/api/v1/workflow-runs?workflow=report")).json()["items"]
        assert [row["id"] for row in listed] == [run["id"]]
        assert (await http.get("/api/v1/workflow-runs?workflow=other")).json()["items"] == []


async def test_a_run_is_cancelled(gateway: RunningGateway) -> None:
    name = new_id("flow").replace("_", "-")
    await gateway.http.put(f"/api/v1/workflows/{name}", json=WORKFLOW)
    run = (await gateway.http.post(f"/api/v1/workflows/{name}/runs", json={"input": "pumps"})).json()
    cancelled = await gateway.http.post(f"/api/v1/workflow-runs/{run['id']}/cancel")
    assert cancelled.json()["state"] == "cancelled"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"nodes": []}, "nodes"),
        ({"nodes": [{"id": "a"}]}, "nodes"),
        ({"nodes": [{"id": "a", "agent": {"message": "x"}, "join": {"output": "x"}}]}, "nodes"),
        ({"nodes": [{"id": "A", "agent": {"message": "x"}}]}, "nodes"),
        ({"nodes": [{"id": "a", "agent": {"message": "x"}, "needs": ["nobody"]}]}, "workflow.nodes"),
        ({"steps": 1}, "steps"),
    ],
)
async def test_wrong_workflows_are_refused_by_field(
    gateway: RunningGateway, change: dict[str, Any], field: str
) -> None:
    refused = await gateway.http.put("/api/v1/workflows/wrong", json={**WORKFLOW, **change})
    assert refused.status_code == 422, refused.text
    assert field in refused.text
    assert (await gateway.http.get("/api/v1/workflows/wrong")).status_code == 404


async def test_who_only_chats_may_run_but_not_define(gateway: RunningGateway) -> None:
    await gateway.http.put("/api/v1/workflows/shared", json=WORKFLOW)
    key = await make_key(gateway, roles=["user"], scopes=["chat"])
    async with gateway.client(key["key"]) as http:
        assert (await http.put("/api/v1/workflows/shared", json=WORKFLOW)).status_code == 403
        assert (await http.delete("/api/v1/workflows/shared")).status_code == 403
        assert (await http.post("/api/v1/workflows/shared/runs", json={"input": "x"})).status_code == 202
