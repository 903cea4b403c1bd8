"""Facts, consent and training data through the door."""

import json

import pytest
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import RunningGateway

from .test_admin import make_key, make_tenant
from .test_quotas import tenant_with_quota


async def test_facts_are_kept_found_and_forgotten(gateway: RunningGateway) -> None:
    async with tenant_with_quota(gateway, 100_000) as (http, _):
        fact = {"text": "Prefers metres", "key": "units", "agent": "default", "expires_at": "2999-01-01T00:00:00Z"}
        kept = (await http.post("/api/v1/facts", json=fact)).json()
        assert (kept["merged"], kept["fact"]["text"], kept["fact"]["count"]) == (False, "Prefers metres", 1)
        assert kept["fact"]["expires_at"] == "2999-01-01T00:00:00Z"
        assert (await http.post("/api/v1/facts", json=fact)).json()["merged"]
        await http.post("/api/v1/facts", json={"text": "Lives in Oslo"})
        found = (await http.post("/api/v1/facts/query", json={"query": "which metres"})).json()["matches"]
        assert [match["fact"]["text"] for match in found] == ["Prefers metres"]
        by_key = (await http.post("/api/v1/facts/query", json={"key": "units"})).json()["matches"]
        assert [match["fact"]["id"] for match in by_key] == [kept["fact"]["id"]]
        assert len((await http.get("/api/v1/facts")).json()["items"]) == 2
        assert (await http.delete(f"/api/v1/facts/{kept['fact']['id']}")).status_code == 204
        assert (await http.delete("/api/v1/facts")).json() == {"erased": 1}
        assert (await http.get("/api/v1/facts")).json()["items"] == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", {"text": " "}),
        ("", {"text": "x" * 1001}),
        ("", {"text": "x", "expires_at": "tomorrow"}),
        ("", {"text": "x", "count": 3}),
        ("/query", {}),
        ("/query", {"query": "x", "top_k": 51}),
    ],
)
async def test_wrong_facts_are_refused(gateway: RunningGateway, path: str, body: dict[str, object]) -> None:
    assert (await gateway.http.post(f"/api/v1/facts{path}", json=body)).status_code == 422


async def test_consent_is_given_and_taken_back(gateway: RunningGateway) -> None:
    async with tenant_with_quota(gateway, 100_000) as (http, _):
        assert (await http.get("/api/v1/consent")).json() == {"training": False}
        assert (await http.put("/api/v1/consent", json={"training": True})).json() == {"training": True}
        assert (await http.get("/api/v1/consent")).json() == {"training": True}


async def test_examples_are_streamed_as_lines(gateway: RunningGateway, backend: FakeBackend) -> None:
    answer = await gateway.http.get("/api/v1/examples?agent=staff&approved_only=true&since=2026-01-01T00:00:00Z")
    assert answer.headers["content-type"].startswith("application/jsonl")
    assert [json.loads(line)["run_id"] for line in answer.text.splitlines()] == ["run_0", "run_1"]
    asked = backend.examples.asked
    assert (asked.agent, asked.approved_only, asked.since.seconds) == ("staff", True, 1767225600)
    backwards = "/api/v1/examples?since=2026-02-01T00:00:00Z&until=2026-01-01T00:00:00Z"
    refused = await gateway.http.get(backwards)
    assert (refused.status_code, refused.json()["details"]["field"]) == (422, "until")


async def test_only_admins_export(gateway: RunningGateway) -> None:
    key = await make_key(gateway, tenant_id=await make_tenant(gateway), roles=["developer"])
    async with gateway.client(key["key"]) as http:
        assert (await http.get("/api/v1/examples")).status_code == 403
