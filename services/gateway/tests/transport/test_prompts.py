"""Prompts through the door."""

from typing import Any

import pytest
from errand_common.db import new_id
from errand_gateway.testing.gateway import RunningGateway


async def test_versions_aliases_and_results(gateway: RunningGateway) -> None:
    name = new_id("p").replace("_", "-")
    path = f"/api/v1/prompts/{name}"
    for number in (1, 2):
        stored = await gateway.http.put(path, json={"template": f"{number} {{{{ agent }}}}", "description": "new"})
        assert (stored.status_code, stored.json()["version"]) == (200, number), stored.text
    shares = [{"version": 1, "percent": 90}, {"version": 2, "percent": 10}]
    aliased = await gateway.http.put(f"{path}/aliases/live", json={"variants": shares})
    assert aliased.json()["aliases"] == [{"name": "live", "variants": shares}]
    read = (await gateway.http.get(path)).json()
    assert (read["template"], read["aliases"]) == ("2 {{ agent }}", aliased.json()["aliases"])
    assert (await gateway.http.get(path, params={"version": 7})).status_code == 404
    results = (await gateway.http.get(f"{path}/results?since=2026-01-01T00:00:00Z")).json()["results"]
    assert [(row["version"], row["runs"], row["tokens"]) for row in results] == [(2, 1, 15), (1, 1, 15)]
    assert name in [row["name"] for row in (await gateway.http.get("/api/v1/prompts")).json()["items"]]
    assert (await gateway.http.delete(path)).status_code == 204
    assert (await gateway.http.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", {"template": "{{ agent"}),
        ("", {"template": " "}),
        ("", {"template": "x", "version": 3}),
        ("/aliases/live", {"variants": []}),
        ("/aliases/live", {"variants": [{"version": 1, "percent": 30}]}),
        ("/aliases/live", {"variants": [{"version": 0, "percent": 100}]}),
    ],
)
async def test_wrong_prompts_are_refused(gateway: RunningGateway, path: str, body: dict[str, Any]) -> None:
    await gateway.http.put("/api/v1/prompts/kept", json={"template": "x"})
    assert (await gateway.http.put(f"/api/v1/prompts/kept{path}", json=body)).status_code == 422
