"""Where keys may be used from, and how they are replaced."""

import asyncio
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from errand_common.db import Database
from errand_common.testing.keys import TestKeys
from errand_gateway import audit
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import RunningGateway, running_gateway, test_settings

from .test_admin import make_key, make_tenant


async def test_key_is_refused_from_elsewhere(gateway: RunningGateway) -> None:
    here = await make_key(gateway, allowed_networks=["127.0.0.0/8"])
    assert here["allowed_networks"] == ["127.0.0.0/8"]
    elsewhere = await make_key(gateway, allowed_networks=["203.0.113.7"])
    async with gateway.client(here["key"]) as http:
        assert (await http.get("/api/v1/agents")).status_code == 200
    async with gateway.client(elsewhere["key"]) as http:
        # Nobody told us to believe this header.
        claimed = await http.get("/api/v1/agents", headers={"X-Forwarded-For": "203.0.113.7"})
        assert claimed.status_code == 403
        assert "127.0.0.1" in claimed.json()["message"]
    wrong = await gateway.http.post("/api/v1/admin/keys", json={"name": "x", "allowed_networks": ["here"]})
    assert wrong.json()["details"]["fields"][0]["field"] == "allowed_networks"


async def test_trusted_proxies_are_believed(
    tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path
) -> None:
    settings = test_settings(tmp_path, backend, keys, trusted_proxies=["127.0.0.1/32"])
    async with running_gateway(settings, backend, template=template) as gateway:
        key = await make_key(gateway, allowed_networks=["203.0.113.7"])
        async with gateway.client(key["key"]) as http:
            told = await http.get("/api/v1/agents", headers={"X-Forwarded-For": "203.0.113.7"})
            assert told.status_code == 200
            assert (await http.get("/api/v1/agents")).status_code == 403


async def test_rotated_key_works_on_for_a_while(gateway: RunningGateway) -> None:
    old = await make_key(gateway, roles=["user"], scopes=["chat"], allowed_networks=["127.0.0.1"])
    path = f"/api/v1/admin/keys/{old['id']}/rotate"
    rotated = await gateway.http.post(path, json={"overlap_seconds": 3600})
    assert rotated.status_code == 201, rotated.text
    new = rotated.json()
    assert [new[name] for name in ("roles", "scopes", "name", "allowed_networks", "expires_at")] == [
        *(old[name] for name in ("roles", "scopes", "name", "allowed_networks")),
        None,
    ]
    for key in (old, new):
        async with gateway.client(key["key"]) as http:
            assert (await http.get("/api/v1/agents")).status_code == 200
    assert (await gateway.http.get(f"/api/v1/admin/keys/{old['id']}")).json()["expires_at"] is not None
    await gateway.http.post(path, json={"overlap_seconds": 0})
    async with gateway.client(old["key"]) as http:
        assert (await http.get("/api/v1/agents")).status_code == 401
    assert (await gateway.http.post(path, json={})).status_code == 409


async def verify(folder: Path) -> tuple[int | None, str]:
    """`python -m errand_gateway audit-verify` on a folder: exit status and output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "errand_gateway", "audit-verify",
        env={"ERRAND_GATEWAY_DATA_DIR": str(folder), "PATH": ""}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_changed_audit_entry_is_found_from_the_command_line(
    tmp_path: Path,
    backend: FakeBackend,
    keys: TestKeys,
    template: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = test_settings(tmp_path, backend, keys)
    async with running_gateway(settings, backend, template=template) as gateway:
        for _ in range(3):
            await gateway.http.get("/api/v1/agents")
    assert await verify(tmp_path) == (0, "default: 3 entries, intact\n")
    database = Database(settings.database("gateway"), schema="gateway")
    async with database.transaction("default") as session:
        await session.execute(sa.text("UPDATE audit_log SET status = 500 WHERE sequence = 2"))
    await database.close()
    monkeypatch.setenv("ERRAND_GATEWAY_DATA_DIR", str(tmp_path))
    assert await asyncio.to_thread(audit.main) == 1
    assert capsys.readouterr().out.endswith("default: 3 entries, BROKEN at entry 2\n")


async def test_a_tenants_networks_bind_keys_and_people(gateway: RunningGateway) -> None:
    tenant = await make_tenant(gateway)
    key = await make_key(gateway, tenant_id=tenant)
    person = {"email": "ada@example.com", "password": "correct horse battery", "tenant_id": tenant}
    await gateway.http.post("/api/v1/admin/users", json=person)
    login = await gateway.http.post("/api/v1/auth/login", json=person)
    bearer = {"Authorization": f"Bearer {login.json()['access_token']}"}
    path = f"/api/v1/admin/tenants/{tenant}"
    async with gateway.client(key["key"]) as keyed, gateway.client(None) as plain:
        for networks, status in ((["203.0.113.0/24"], 403), (["203.0.113.0/24", "127.0.0.1"], 200), ([], 200)):
            changed = await gateway.http.patch(path, json={"allowed_networks": networks})
            assert changed.status_code == 200
            assert (await keyed.get("/api/v1/agents")).status_code == status
            assert (await plain.get("/api/v1/me", headers=bearer)).status_code == status
    assert changed.json()["state"] == "active"


async def test_the_operator_cannot_lock_itself_out(gateway: RunningGateway) -> None:
    path = "/api/v1/admin/tenants/default"
    refused = await gateway.http.patch(path, json={"allowed_networks": ["203.0.113.0/24"]})
    assert refused.status_code == 403
    assert (await gateway.http.get(path)).json()["allowed_networks"] == []
