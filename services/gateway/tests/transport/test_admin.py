"""Tenants, keys, permissions, usage and audit, through the door."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from errand_common.db import Database, new_id
from errand_common.testing.keys import TestKeys
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import ADMIN_KEY, RunningGateway, running_gateway, test_settings

ALL_SCOPES = ["chat", "documents", "tools", "admin"]


async def make_key(gateway: RunningGateway, **fields: Any) -> dict[str, Any]:
    """A key made by the operator."""
    response = await gateway.http.post("/api/v1/admin/keys", json={"name": "test", **fields})
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    return body


async def make_tenant(gateway: RunningGateway) -> str:
    """A fresh tenant."""
    name = new_id("t").replace("_", "-").lower()
    response = await gateway.http.post("/api/v1/admin/tenants", json={"id": name})
    assert response.status_code == 201
    return name


async def test_key_works_until_it_is_revoked(gateway: RunningGateway) -> None:
    made = await make_key(gateway)
    async with gateway.client(made["key"]) as http:
        assert (await http.post("/api/v1/chat", json={"message": "hi"})).status_code == 200
        revoked = await gateway.http.delete(f"/api/v1/admin/keys/{made['id']}")
        assert revoked.json()["revoked_at"] is not None
        refused = await http.post("/api/v1/chat", json={"message": "hi"})
    assert refused.status_code == 401
    assert "revoked" in refused.json()["message"]


async def test_key_is_shown_once_and_never_stored(gateway: RunningGateway) -> None:
    made = await make_key(gateway)
    listed = await gateway.http.get("/api/v1/admin/keys")
    secret = made["key"].rsplit("_", 1)[1]
    assert made["id"] in [key["id"] for key in listed.json()["items"]]
    assert secret not in listed.text
    for file in gateway.settings.data_dir.glob("gateway.db*"):
        assert secret.encode() not in file.read_bytes()


async def test_expired_key_is_refused(gateway: RunningGateway) -> None:
    past = await gateway.http.post("/api/v1/admin/keys", json={"name": "x", "expires_at": "2020-01-01T00:00:00Z"})
    assert past.json()["details"]["fields"][0]["field"] == "expires_at"
    made = await make_key(gateway, expires_at="2999-01-01T00:00:00Z")
    async with gateway.client(made["key"]) as http:
        assert (await http.get("/api/v1/agents")).status_code == 200


@pytest.mark.parametrize(
    ("roles", "scopes", "method", "path", "status"),
    [
        (["viewer"], ALL_SCOPES, "GET", "/api/v1/runs", 200),
        (["viewer"], ALL_SCOPES, "POST", "/api/v1/chat", 403),
        (["user"], ["chat"], "POST", "/api/v1/chat", 200),
        (["user"], ["documents"], "POST", "/api/v1/chat", 403),
        (["user"], ALL_SCOPES, "POST", "/api/v1/collections", 403),
        (["developer"], ["chat"], "GET", "/api/v1/collections", 403),
        (["developer"], ["documents"], "GET", "/api/v1/collections", 200),
        (["developer"], ALL_SCOPES, "GET", "/api/v1/admin/keys", 403),
        (["admin"], ["admin"], "GET", "/api/v1/admin/keys", 200),
        (["admin"], ALL_SCOPES, "GET", "/api/v1/admin/tenants", 403),
        (["owner"], ALL_SCOPES, "GET", "/api/v1/admin/tenants", 200),
    ],
)
async def test_role_and_scope_decide(
    gateway: RunningGateway, roles: list[str], scopes: list[str], method: str, path: str, status: int
) -> None:
    made = await make_key(gateway, roles=roles, scopes=scopes)
    body = {"message": "hi"} if path.endswith("chat") else {"name": new_id("col")}
    async with gateway.client(made["key"]) as http:
        response = await http.request(method, path, json=body if method == "POST" else None)
    assert response.status_code == status
    if status == 403:
        assert response.json()["code"] == "PERMISSION_DENIED"
        assert ":" in response.json()["details"]["permission"]


async def test_admin_cannot_give_more_than_it_has(gateway: RunningGateway) -> None:
    admin = await make_key(gateway, roles=["admin"], scopes=["admin"])
    async with gateway.client(admin["key"]) as http:
        owner = await http.post("/api/v1/admin/keys", json={"name": "x", "roles": ["owner"], "scopes": ["admin"]})
        wider = await http.post("/api/v1/admin/keys", json={"name": "x", "roles": ["admin"], "scopes": ["chat"]})
        same = await http.post("/api/v1/admin/keys", json={"name": "x", "roles": ["admin"], "scopes": ["admin"]})
    assert [owner.status_code, wider.status_code, same.status_code] == [403, 403, 201]


async def test_tenant_does_not_see_another_one(gateway: RunningGateway) -> None:
    tenant = await make_tenant(gateway)
    other = await make_key(gateway, tenant_id=tenant, roles=["owner"], scopes=ALL_SCOPES)
    mine = await make_key(gateway)
    run = (await gateway.http.post("/api/v1/chat", json={"message": "secret"})).json()
    async with gateway.client(other["key"]) as http:
        answers = {
            path: (await http.get(path)).status_code
            for path in (
                f"/api/v1/runs/{run['run_id']}",
                f"/api/v1/runs/{run['run_id']}/events",
                f"/api/v1/conversations/{run['conversation_id']}",
                f"/api/v1/conversations/{run['conversation_id']}/messages",
                f"/api/v1/admin/keys/{mine['id']}",
                "/api/v1/admin/keys?tenant_id=default",
            )
        }
        revoke = await http.delete(f"/api/v1/admin/keys/{mine['id']}?tenant_id=default")
        tenants = await http.get("/api/v1/admin/tenants")
        into_mine = await http.post("/api/v1/admin/keys", json={"name": "x", "tenant_id": "default"})
        own = await http.get("/api/v1/runs")
    assert set(answers.values()) == {404}, answers
    assert (revoke.status_code, tenants.status_code, into_mine.status_code) == (404, 403, 404)
    assert own.json()["items"] == []


async def test_suspended_tenant_is_refused_at_once(gateway: RunningGateway) -> None:
    tenant = await make_tenant(gateway)
    made = await make_key(gateway, tenant_id=tenant)
    async with gateway.client(made["key"]) as http:
        assert (await http.post("/api/v1/chat", json={"message": "hi"})).status_code == 200
        await gateway.http.patch(f"/api/v1/admin/tenants/{tenant}", json={"state": "suspended"})
        assert (await http.post("/api/v1/chat", json={"message": "hi"})).status_code == 403
        await gateway.http.patch(f"/api/v1/admin/tenants/{tenant}", json={"state": "active"})
        assert (await http.post("/api/v1/chat", json={"message": "hi"})).status_code == 200
    own = await gateway.http.patch("/api/v1/admin/tenants/default", json={"state": "suspended"})
    assert own.status_code == 409


async def records(gateway: RunningGateway, path: str, request_id: str) -> dict[str, Any]:
    """The record of a request, once the writer has written it."""
    async with asyncio.timeout(5):
        while True:
            for row in (await gateway.http.get(path)).json()["items"]:
                if request_id in (row.get("request_id"), row.get("event", {}).get("request_id")):
                    found: dict[str, Any] = row
                    return found
            await asyncio.sleep(0.02)


async def test_usage_and_audit_tell_of_a_request(gateway: RunningGateway) -> None:
    request_id = new_id("req")
    await gateway.http.post("/api/v1/chat", json={"message": "my secret"}, headers={"X-Request-ID": request_id})
    usage = await records(gateway, "/api/v1/usage", request_id)
    assert (usage["agent"], usage["status"], usage["stop_reason"]) == ("default", 200, "answer")
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (20, 5)
    assert usage["duration_ms"] > 0
    audit = await records(gateway, "/api/v1/admin/audit", request_id)
    assert audit["event"]["action"] == "runs:create"
    assert audit["event"]["path"] == "/api/v1/chat"
    assert "my secret" not in str(audit)
    assert ADMIN_KEY not in str(audit)


async def test_usage_of_a_stream_is_known(gateway: RunningGateway) -> None:
    request_id = new_id("req")
    headers = {"X-Request-ID": request_id, "Accept": "text/event-stream"}
    await gateway.http.post("/api/v1/chat", json={"message": "hi"}, headers=headers)
    assert (await records(gateway, "/api/v1/usage", request_id))["completion_tokens"] == 5


async def test_changed_audit_entry_is_found(
    tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path
) -> None:
    settings = test_settings(tmp_path, backend, keys)
    async with running_gateway(settings, backend, template=template) as gateway:
        for number in range(4):
            await gateway.http.get("/api/v1/agents", headers={"X-Request-ID": f"req-{number}"})
        await records(gateway, "/api/v1/admin/audit", "req-3")
        intact = (await gateway.http.get("/api/v1/admin/audit/verify")).json()
        database = Database(settings.database("gateway"), schema="gateway")
        async with database.transaction("default") as session:
            await session.execute(sa.text("UPDATE audit_log SET path = '/x' WHERE sequence = 2"))
        broken = (await gateway.http.get("/api/v1/admin/audit/verify")).json()
        await database.close()
    assert intact["intact"] is True
    assert intact["entries"] >= 4
    assert (broken["intact"], broken["broken_at"]) == (False, 2)


async def test_keys_and_records_outlive_a_restart(
    tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path
) -> None:
    settings = test_settings(tmp_path, backend, keys)
    async with running_gateway(settings, backend, template=template) as gateway:
        made = await make_key(gateway)
    later = settings.model_copy(update={"bootstrap_admin_key": None, "record_flush_seconds": 0.05})
    async with running_gateway(later, backend) as gateway:
        assert (await gateway.http.get("/api/v1/agents")).status_code == 200
        async with gateway.client(made["key"]) as http:
            assert (await http.get("/api/v1/agents")).status_code == 200
        audit = (await gateway.http.get("/api/v1/admin/audit")).json()["items"]
        assert "/api/v1/admin/keys" in [entry["event"]["path"] for entry in audit]
        assert (await gateway.http.get("/api/v1/admin/audit/verify")).json()["intact"] is True
