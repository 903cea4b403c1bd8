"""Tool calls that wait for a person, through the door."""

import pytest
from errand_gateway.testing.gateway import RunningGateway

from .test_admin import make_key, make_tenant
from .test_quotas import tenant_with_quota, until_booked


async def test_call_is_approved_with_other_arguments(gateway: RunningGateway) -> None:
    async with tenant_with_quota(gateway, 100_000) as (http, quota_id):
        run = (await http.post("/api/v1/runs", json={"message": "ask first"})).json()
        assert run["state"] == "waiting"
        waiting = (await http.get(f"/api/v1/approvals?run_id={run['id']}&state=pending")).json()["items"]
        assert [(row["tool_name"], row["arguments"]) for row in waiting] == [("send_mail", {"to": "ada"})]
        path = f"/api/v1/approvals/{waiting[0]['id']}"
        decided = await http.post(f"{path}/approve", json={"arguments": {"to": "bob"}, "reason": "ask bob"})
        assert decided.status_code == 200, decided.text
        assert decided.json()["state"] == "approved"
        assert (decided.json()["edited_arguments"], decided.json()["reason"]) == ({"to": "bob"}, "ask bob")
        assert (await http.post(f"{path}/refuse", json={})).status_code == 409
        # What the run used after the person decided is booked too.
        await until_booked(http, quota_id, 25)


async def test_call_is_refused(gateway: RunningGateway) -> None:
    run = (await gateway.http.post("/api/v1/runs", json={"message": "ask first"})).json()
    waiting = (await gateway.http.get(f"/api/v1/approvals?run_id={run['id']}")).json()["items"][0]
    refused = await gateway.http.post(f"/api/v1/approvals/{waiting['id']}/refuse", json={"reason": "no"})
    assert (refused.json()["state"], refused.json()["reason"]) == ("refused", "no")


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("approve", {"arguments": []}),
        ("approve", {"arguments": {"x": "y" * 70_000}}),
        ("refuse", {"reason": "x" * 2001}),
        ("refuse", {"unknown": 1}),
    ],
)
async def test_wrong_decisions_are_refused(gateway: RunningGateway, action: str, body: dict[str, object]) -> None:
    assert (await gateway.http.post(f"/api/v1/approvals/apr_1/{action}", json=body)).status_code == 422


async def test_others_cannot_see_or_decide(gateway: RunningGateway) -> None:
    run = (await gateway.http.post("/api/v1/runs", json={"message": "ask first"})).json()
    waiting = (await gateway.http.get(f"/api/v1/approvals?run_id={run['id']}")).json()["items"][0]
    key = await make_key(gateway, tenant_id=await make_tenant(gateway))
    async with gateway.client(key["key"]) as http:
        assert (await http.get("/api/v1/approvals")).json()["items"] == []
        assert (await http.post(f"/api/v1/approvals/{waiting['id']}/approve", json={})).status_code == 404
    viewer = await make_key(gateway, roles=["viewer"])
    async with gateway.client(viewer["key"]) as http:
        assert (await http.post(f"/api/v1/approvals/{waiting['id']}/approve", json={})).status_code == 403
