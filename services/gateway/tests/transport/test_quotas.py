"""Quotas and usage reports, through the door."""

import asyncio
import csv
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from errand_common.errors import Unavailable
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import RunningGateway

from .test_admin import make_key, make_tenant

ALL = {"roles": ["admin"], "scopes": ["chat", "documents", "tools", "admin"]}
DAILY = {"period": "day", "measure": "tokens"}


@asynccontextmanager
async def tenant_with_quota(
    gateway: RunningGateway, amount: int, **fields: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """A client of a fresh tenant, and the id of the tenant's quota."""
    tenant = await make_tenant(gateway)
    body = {**DAILY, "amount": amount, "tenant_id": tenant, **fields}
    made = await gateway.http.post("/api/v1/admin/quotas", json=body)
    assert made.status_code == 201, made.text
    key = await make_key(gateway, tenant_id=tenant, **ALL)
    async with gateway.client(key["key"]) as http:
        yield http, made.json()["id"]


async def until_booked(http: httpx.AsyncClient, quota_id: str, spent: int) -> dict[str, Any]:
    """The quota, once so much is booked."""
    async with asyncio.timeout(20):
        while True:
            state: dict[str, Any] = (await http.get(f"/api/v1/admin/quotas/{quota_id}")).json()
            if state["spent"] == spent:
                return state
            await asyncio.sleep(0.1)


async def until_rows(http: httpx.AsyncClient, count: int) -> None:
    """Waits until so many usage rows are written."""
    async with asyncio.timeout(20):
        while True:
            if len((await http.get("/api/v1/usage")).json()["items"]) >= count:
                return
            await asyncio.sleep(0.05)


PAID: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("/api/v1/chat", {"message": "hi"}, {}),
    ("/api/v1/chat", {"message": "hi"}, {"Accept": "text/event-stream"}),
    ("/api/v1/runs", {"message": "hi"}, {}),
    ("/v1/chat/completions", {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}, {}),
    ("/v1/chat/completions", {"model": "tiny", "stream": True, "messages": [{"role": "user", "content": "hi"}]}, {}),
    ("/v1/chat/completions", {"model": "agent:default", "messages": [{"role": "user", "content": "hi"}]}, {}),
    ("/v1/embeddings", {"model": "embed-small", "input": "hi"}, {}),
    ("/api/v1/search", {"query": "hi"}, {}),
    ("/api/v1/workflows/any/runs", {"input": "hi"}, {}),
    ("/api/v1/facts", {"text": "hi"}, {}),
    ("/api/v1/facts/query", {"query": "hi"}, {}),
]


@pytest.mark.parametrize(("path", "body", "headers"), PAID)
async def test_everything_that_costs_is_refused_when_the_quota_is_spent(
    gateway: RunningGateway, path: str, body: dict[str, Any], headers: dict[str, str]
) -> None:
    async with tenant_with_quota(gateway, 0) as (http, quota_id):
        refused = await http.post(path, json=body, headers=headers)
        assert refused.status_code == 429, refused.text
        assert 0 < int(refused.headers["retry-after"]) <= 86_400
        if path.startswith("/v1/"):
            assert refused.json()["error"]["code"] == "insufficient_quota"
        else:
            assert refused.json()["code"] == "QUOTA_EXCEEDED"
            assert refused.json()["details"]["quota"] == quota_id
        assert gateway.backend.agent.requests == []
        assert gateway.backend.inference.requests == []
        assert (await http.get("/api/v1/agents")).status_code == 200


async def test_uploads_and_tokens_need_quota_too(gateway: RunningGateway) -> None:
    async with tenant_with_quota(gateway, 0) as (http, _):
        assert (await http.post("/api/v1/token")).status_code == 429
        await http.post("/api/v1/collections", json={"name": "docs"})
        refused = await http.post("/api/v1/collections/docs/documents", files={"file": ("a.txt", b"some text")})
        assert refused.status_code == 429


async def test_what_was_used_is_booked_and_the_rest_freed(gateway: RunningGateway) -> None:
    async with tenant_with_quota(gateway, 100_000) as (http, quota_id):
        await http.post("/api/v1/chat", json={"message": "hi"})
        streamed = await http.post("/api/v1/chat", json={"message": "hi"}, headers={"Accept": "text/event-stream"})
        assert "event: ended" in streamed.text
        state = await until_booked(http, quota_id, 50)
        assert state["period_start"]


async def test_a_background_run_is_booked_when_it_ends(gateway: RunningGateway) -> None:
    async with tenant_with_quota(gateway, 100_000) as (http, quota_id):
        run = (await http.post("/api/v1/runs", json={"message": "hi"}, headers={"X-Errand-Project": "shop"})).json()
        await until_booked(http, quota_id, 25)
        rows = (await http.get("/api/v1/usage")).json()["items"]
        booked = next(row for row in rows if row["prompt_tokens"])
        assert (booked["run_id"], booked["project"], booked["completion_tokens"]) == (run["id"], "shop", 5)


async def test_a_failed_request_frees_what_it_held(gateway: RunningGateway, backend: FakeBackend) -> None:
    async with tenant_with_quota(gateway, 4_100) as (http, _):
        backend.agent.fail_with = Unavailable("agent")
        for _ in range(3):
            assert (await http.post("/api/v1/chat", json={"message": "hi"})).status_code == 503
        backend.agent.fail_with = None
        assert (await http.post("/api/v1/chat", json={"message": "hi"})).status_code == 200


async def test_a_key_has_its_own_quota(gateway: RunningGateway) -> None:
    async with tenant_with_quota(gateway, 10_000_000) as (http, _):
        made = await http.post("/api/v1/admin/keys", json={"name": "limited"})
        limit = {**DAILY, "subject": "key", "subject_id": made.json()["id"], "amount": 0}
        quota = await http.post("/api/v1/admin/quotas", json=limit)
        assert quota.status_code == 201, quota.text
        async with gateway.client(made.json()["key"]) as limited:
            assert (await limited.post("/api/v1/chat", json={"message": "hi"})).status_code == 429
        assert (await http.post("/api/v1/chat", json={"message": "hi"})).status_code == 200
        await http.delete(f"/api/v1/admin/quotas/{quota.json()['id']}")
        async with gateway.client(made.json()["key"]) as free:
            assert (await free.post("/api/v1/chat", json={"message": "hi"})).status_code == 200


async def test_a_tenant_cannot_lift_its_own_quota(gateway: RunningGateway) -> None:
    async with tenant_with_quota(gateway, 0) as (http, quota_id):
        assert (await http.patch(f"/api/v1/admin/quotas/{quota_id}", json={"amount": 9})).status_code == 403
        assert (await http.delete(f"/api/v1/admin/quotas/{quota_id}")).status_code == 403
        mine = await http.post("/api/v1/admin/quotas", json={**DAILY, "period": "month", "amount": 9})
        assert mine.status_code == 403
        listed = (await http.get("/api/v1/admin/quotas")).json()["items"]
        assert [row["id"] for row in listed] == [quota_id]


async def test_a_quota_is_changed_by_version(gateway: RunningGateway) -> None:
    tenant = await make_tenant(gateway)
    body = {**DAILY, "amount": 1, "tenant_id": tenant}
    made = await gateway.http.post("/api/v1/admin/quotas", json=body)
    assert made.headers["etag"] == '"1"'
    assert (await gateway.http.post("/api/v1/admin/quotas", json=body)).status_code == 409
    path = f"/api/v1/admin/quotas/{made.json()['id']}?tenant_id={tenant}"
    changed = await gateway.http.patch(path, json={"amount": 2}, headers={"If-Match": '"1"'})
    assert (changed.json()["amount"], changed.headers["etag"]) == (2, '"2"')
    stale = await gateway.http.patch(path, json={"amount": 3}, headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    nobody = await gateway.http.post(
        "/api/v1/admin/quotas", json={**body, "subject": "key", "subject_id": "key_nobody"}
    )
    assert nobody.status_code == 404


async def test_usage_is_reported_by_project_and_day(gateway: RunningGateway) -> None:
    async with tenant_with_quota(gateway, 10_000_000) as (http, _):
        for project in ("shop", "shop", "=cmd()"):
            headers = {"OpenAI-Project": project}
            asked = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
            done = await http.post("/v1/chat/completions", json=asked, headers=headers)
            assert done.status_code == (200 if project == "shop" else 400)
        await until_rows(http, 3)
        report = (await http.get("/api/v1/usage/report?by=project&by=day&by=model")).json()["rows"]
        shop = next(row for row in report if row["group"]["project"] == "shop")
        assert (shop["requests"], shop["failed"], shop["prompt_tokens"]) == (2, 0, 24)
        assert shop["group"]["model"] == "tiny"
        assert len(shop["group"]["day"]) == 10
        text = await http.get("/api/v1/usage/report?by=project", headers={"Accept": "text/csv"})
        assert text.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(text.text.splitlines()))
        assert {row["project"]: row["requests"] for row in rows} == {"shop": "2", "": "1"}
        assert (await http.get("/api/v1/usage/report")).status_code == 422
        backwards = "/api/v1/usage/report?by=day&since=2026-02-01T00:00:00Z&until=2026-01-01T00:00:00Z"
        assert (await http.get(backwards)).status_code == 422
