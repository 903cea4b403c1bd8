"""Retention, exports and erasures through the door."""

import json

from errand_gateway.testing.gateway import RunningGateway

from .test_admin import make_key
from .test_quotas import tenant_with_quota


async def test_retention_is_read_and_changed(gateway: RunningGateway) -> None:
    async with tenant_with_quota(gateway, 100_000) as (http, _):
        path = "/api/v1/privacy/retention"
        assert (await http.get(path)).json()["conversation_days"] == 0
        wanted = {"conversation_days": 30, "workflow_run_days": 7, "fact_days": 365}
        changed = await http.put(path, json=wanted)
        assert changed.json() == {**wanted, "swept_at": None}
        assert (await http.get(path)).json() == changed.json()
        assert (await http.put(path, json={"fact_days": 3651})).status_code == 422
    key = await make_key(gateway, roles=["developer"])
    async with gateway.client(key["key"]) as http:
        assert (await http.put(path, json=wanted)).status_code == 403


async def test_a_person_is_exported_and_erased(gateway: RunningGateway) -> None:
    async with tenant_with_quota(gateway, 100_000) as (http, _):
        mine = await http.get("/api/v1/privacy/export")
        assert mine.headers["content-type"].startswith("application/jsonl")
        assert json.loads(mine.text)["row"]["principal_id"].startswith("key_")
        theirs = await http.get("/api/v1/privacy/export?principal_id=usr_1")
        assert json.loads(theirs.text)["row"] == {"principal_id": "usr_1"}
        erased = await http.post("/api/v1/privacy/erase", json={"principal_id": "usr_1"})
        assert erased.json() == {"erased": {"consents": 1}}


async def test_a_conversation_is_exported(gateway: RunningGateway) -> None:
    run = (await gateway.http.post("/api/v1/runs", json={"message": "hello"})).json()
    exported = await gateway.http.get(f"/api/v1/conversations/{run['conversation_id']}/export")
    assert [json.loads(line)["row"]["text"] for line in exported.text.splitlines()] == ["hello", "You said: hello"]
    assert (await gateway.http.get("/api/v1/conversations/conv_nobody/export")).status_code == 404
