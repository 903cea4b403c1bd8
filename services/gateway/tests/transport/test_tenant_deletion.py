"""Deleting a tenant: refused at once, emptied everywhere, carried on by whoever is there."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from errand_common.db import Database, migrate, utc_now
from errand_common.errors import Unavailable
from errand_common.principal import Principal
from errand_gateway.domain.auth import TenantState
from errand_gateway.domain.erasures import LEASE, DeletionState, TenantDeletions
from errand_gateway.domain.records import AuditEvent
from errand_gateway.domain.tenants import Tenant
from errand_gateway.storage.erasures import SqlDeletionRepository
from errand_gateway.storage.models import SCHEMA, TENANT_TABLES
from errand_gateway.storage.tenants import SqlTenantRepository
from errand_gateway.testing.gateway import RunningGateway
from prometheus_client import REGISTRY

from .test_admin import make_key, make_tenant
from .test_quotas import ALL
from .test_tenant_matrix import belongings

OPERATOR = Principal("default", "key_operator", frozenset({"owner"}), request_id="req_1")


async def ended(gateway: RunningGateway, tenant: str) -> dict[str, Any]:
    """The deletion, once it is complete."""
    async with asyncio.timeout(60):
        while True:
            found: dict[str, Any] = (await gateway.http.get(f"/api/v1/admin/tenants/{tenant}/deletion")).json()
            if found["state"] == "completed":
                return found
            await asyncio.sleep(0.05)


async def rows_of(gateway: RunningGateway, tenant: str) -> set[str]:
    """Tables of the gateway in which the tenant has rows."""
    database = Database(gateway.settings.database("gateway"), schema=SCHEMA)
    try:
        async with database.transaction(tenant, read_only=True) as session:
            counts = {
                table: await session.scalar(
                    sa.text(f"SELECT count(*) FROM {table} WHERE tenant_id = :tenant"), {"tenant": tenant}
                )
                for table in TENANT_TABLES
            }
            prefixes = sa.text("SELECT count(*) FROM key_prefixes WHERE owner_tenant = :tenant")
            counts["key_prefixes"] = await session.scalar(prefixes, {"tenant": tenant})
    finally:
        await database.close()
    return {table for table, count in counts.items() if count}


def deletion_failures() -> float:
    """How often services have held up deletions."""
    samples = (sample for family in REGISTRY.collect() for sample in family.samples)
    return sum(sample.value for sample in samples if sample.name == "tenant_deletion_failures_total")


async def test_all_of_a_tenant_goes_and_its_credentials_are_refused_at_once(gateway: RunningGateway) -> None:
    tenant, other = await make_tenant(gateway), await make_tenant(gateway)
    key, kept = [await make_key(gateway, tenant_id=name, **ALL) for name in (tenant, other)]
    gateway.backend.privacy.erase_fails_with = Unavailable("database")
    held_up = deletion_failures()
    async with gateway.client(key["key"]) as http, gateway.client(kept["key"]) as stranger:
        await belongings(gateway, http, tenant)
        login = {"tenant_id": tenant, "email": "a@b.c", "password": "x" * 12}
        session = (await http.post("/api/v1/auth/login", json=login)).json()
        theirs = (await stranger.post("/api/v1/runs", json={"message": "hi"})).json()

        ordered = await gateway.http.delete(f"/api/v1/admin/tenants/{tenant}")
        assert ordered.status_code == 202, ordered.text
        assert ordered.headers["location"] == f"/api/v1/admin/tenants/{tenant}/deletion"
        assert (await http.get("/api/v1/runs")).status_code in (401, 403)
        bearer = {"Authorization": f"Bearer {session['access_token']}"}
        async with gateway.client(None) as nobody:
            assert (await nobody.get("/api/v1/me", headers=bearer)).status_code in (401, 403)
            assert (await nobody.post("/api/v1/auth/login", json=login)).status_code in (401, 403)

        # Asked again while a service is away, it is the same deletion, which tells what it waits for.
        async with asyncio.timeout(60):
            while True:
                again = (await gateway.http.delete(f"/api/v1/admin/tenants/{tenant}")).json()
                if again["waits_for"]:
                    break
                await asyncio.sleep(0.05)
        assert deletion_failures() > held_up
        assert (again["state"], again["requested_at"]) == ("running", ordered.json()["requested_at"])
        assert again["waits_for"].startswith("agent: ")
        gateway.backend.privacy.erase_fails_with = None

        done = await ended(gateway, tenant)
        assert done["erased"]["rag"] == {"chunks": 1, "collections": 1, "documents": 1}
        assert done["erased"]["tools"] == {"secrets": 1, "tools": 2}, "its own and its MCP server's"
        assert done["erased"]["agent"]["runs"] >= 1
        assert {"api_keys", "users", "quotas", "usage", "files", "responses"} <= set(done["erased"]["gateway"])
        assert await rows_of(gateway, tenant) == {"audit_log"}
        assert (await stranger.get(f"/api/v1/runs/{theirs['id']}")).status_code == 200
        assert await rows_of(gateway, other) >= {"audit_log", "api_keys"}
    found = (await gateway.http.get(f"/api/v1/admin/tenants/{tenant}")).json()
    assert (found["state"], found["display_name"]) == ("deleted", "")


async def test_what_is_deleted_takes_nothing_new_and_does_not_come_back(gateway: RunningGateway) -> None:
    tenant = await make_tenant(gateway)
    await gateway.http.delete(f"/api/v1/admin/tenants/{tenant}")
    quota = {"tenant_id": tenant, "period": "day", "measure": "tokens", "amount": 1}
    user = {"tenant_id": tenant, "email": "a@b.c", "password": "x" * 12}
    for path, body in (("keys", {"name": "x", "tenant_id": tenant}), ("users", user), ("quotas", quota)):
        assert (await gateway.http.post(f"/api/v1/admin/{path}", json=body)).status_code == 404, path
    for state in ("active", "suspended"):
        changed = await gateway.http.patch(f"/api/v1/admin/tenants/{tenant}", json={"state": state})
        assert (changed.status_code, changed.json()["code"]) == (409, "CONFLICT")
    await ended(gateway, tenant)
    assert (await gateway.http.post("/api/v1/admin/tenants", json={"id": tenant})).status_code == 409
    again = await gateway.http.delete(f"/api/v1/admin/tenants/{tenant}")
    assert (again.status_code, again.json()["state"]) == (202, "completed")


async def test_who_may_delete_which_tenant(gateway: RunningGateway) -> None:
    tenant = await make_tenant(gateway)
    owner = await make_key(gateway, tenant_id=tenant, **ALL)
    async with gateway.client(owner["key"]) as http:
        assert (await http.delete(f"/api/v1/admin/tenants/{tenant}")).status_code == 403
        assert (await http.get(f"/api/v1/admin/tenants/{tenant}/deletion")).status_code == 403
    assert (await gateway.http.delete("/api/v1/admin/tenants/nobody")).status_code == 404
    assert (await gateway.http.get(f"/api/v1/admin/tenants/{tenant}/deletion")).status_code == 404
    assert (await gateway.http.delete("/api/v1/admin/tenants/default")).status_code == 409
    for state in ("deleting", "deleted"):
        changed = await gateway.http.patch(f"/api/v1/admin/tenants/{tenant}", json={"state": state})
        assert changed.status_code == 422


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/gateway.db"
    return str(request.getfixturevalue("postgres_url"))


@contextlib.asynccontextmanager
async def carried_out(work: TenantDeletions) -> AsyncIterator[None]:
    task = asyncio.create_task(work.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_another_gateway_goes_on_where_one_died(url: str) -> None:
    await asyncio.to_thread(migrate, url, package="errand_gateway.storage.migrations", schema=SCHEMA)
    database, clock, audited, erased = Database(url, schema=SCHEMA), Clock(), list[AuditEvent](), asyncio.Event()
    await SqlTenantRepository(database).add(Tenant("acme", "Acme", TenantState.ACTIVE, utc_now()))
    store = SqlDeletionRepository(database)
    left = {"runs": 3}

    async def erase(_tenant: str) -> Mapping[str, int]:
        found = dict(left)
        left.clear()
        erased.set()
        return found

    def gateway(owner: str) -> TenantDeletions:
        return TenantDeletions(
            store,
            {"gateway": store.erase, "agent": erase},
            owner=owner,
            acting_as=lambda _: contextlib.nullcontext(),
            record=audited.append,
            on_failure=lambda _service, error: pytest.fail(repr(error)),
            settle=timedelta(0),
            now=clock,
        )

    await gateway("one").order("acme", OPERATOR)
    assert (await store.claim("one", now=clock.now, lease=LEASE)) is not None, "the first begins, and dies"
    assert await store.claim("two", now=clock.now, lease=LEASE) is None, "nobody else works on it meanwhile"
    clock.now += LEASE
    assert not await store.keep(await store.get("acme"), "nobody", until=clock.now), "only who has it keeps it"
    async with carried_out(gateway("two")), asyncio.timeout(60):
        await erased.wait()
        while (await store.get("acme")).state is not DeletionState.COMPLETED:
            await asyncio.sleep(0.01)
            clock.now += timedelta(seconds=1)
    done = await store.get("acme")
    assert done.erased["agent"] == {"runs": 3}
    assert [(event.tenant_id, event.action, event.principal_id) for event in audited] == [
        ("default", "tenants:deleted", "key_operator")
    ]
    assert (await SqlTenantRepository(database).get("acme")).state is TenantState.DELETED
    await database.close()
