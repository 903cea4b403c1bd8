"""Webhooks through the door."""

from typing import Any

import pytest
from errand_common.db import new_id
from errand_gateway.testing.gateway import RunningGateway

from .test_admin import make_key

HOOK = {"url": "https://example.com/hook", "events": ["approval_requested", "run_ended"], "paused": False}


async def test_a_webhook_is_made_with_a_secret_that_is_shown_once(gateway: RunningGateway) -> None:
    name = new_id("hook").replace("_", "-")
    path = f"/api/v1/webhooks/{name}"
    made = (await gateway.http.put(path, json=HOOK)).json()
    assert (made["webhook"], made["secret"][:6]) == ({"name": name, **HOOK}, "whsec_")
    listed = await gateway.http.get("/api/v1/webhooks")
    assert {"name": name, **HOOK} in listed.json()["items"]
    assert "whsec_" not in listed.text
    [delivery] = (await gateway.http.get(f"{path}/deliveries")).json()["items"]
    assert (delivery["event"], delivery["state"], delivery["attempts"]) == ("approval_requested", "pending", 2)
    assert (await gateway.http.delete(path)).status_code == 204
    assert (await gateway.http.get(f"{path}/deliveries")).status_code == 404


@pytest.mark.parametrize(
    "change",
    [{"url": "ftp://example.com/"}, {"url": "https://evil.net/"}, {"events": []}, {"events": ["all"]}, {"secret": "x"}],
)
async def test_wrong_webhooks_are_refused(gateway: RunningGateway, change: dict[str, Any]) -> None:
    assert (await gateway.http.put("/api/v1/webhooks/wrong", json={**HOOK, **change})).status_code == 422


async def test_only_admins_see_webhooks(gateway: RunningGateway) -> None:
    key = await make_key(gateway, roles=["developer"])
    async with gateway.client(key["key"]) as http:
        assert (await http.put("/api/v1/webhooks/mine", json=HOOK)).status_code == 403
        assert (await http.get("/api/v1/webhooks")).status_code == 403
