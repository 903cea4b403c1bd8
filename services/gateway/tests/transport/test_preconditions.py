"""Changes that must say which version they change, where the operator wants it."""

from pathlib import Path

from errand_common.testing.keys import TestKeys
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import RunningGateway, running_gateway, test_settings


def versioned(gateway: RunningGateway) -> list[tuple[str, str]]:
    """Path and method of every operation that takes If-Match."""
    return [
        (path, method)
        for path, methods in gateway.app.openapi()["paths"].items()
        for method, operation in methods.items()
        if "If-Match" in {parameter["name"] for parameter in operation.get("parameters", ())}
    ]


async def test_a_change_without_a_version_is_refused(
    tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path
) -> None:
    settings = test_settings(tmp_path, backend, keys, require_if_match=True)
    async with running_gateway(settings, backend, template=template) as gateway:
        operations = versioned(gateway)
        assert len(operations) == 5
        for path, method in operations:
            refused = await gateway.http.request(method, path.replace("{", "").replace("}", ""), json={})
            assert (refused.status_code, refused.json()["code"]) == (428, "PRECONDITION_REQUIRED"), path
            assert refused.json()["details"] == {"field": "If-Match"}
        assert (await gateway.http.post("/api/v1/agents", json={"name": "helper"})).status_code == 201
        path = "/api/v1/agents/helper"
        seen = (await gateway.http.get(path)).headers["etag"]
        assert (await gateway.http.put(path, json={}, headers={"If-Match": seen})).status_code == 200
        assert (await gateway.http.put(path, json={}, headers={"If-Match": seen})).status_code == 412
        assert (await gateway.http.put(path, json={}, headers={"If-Match": "*"})).status_code == 200


async def test_by_default_a_change_may_say_nothing(gateway: RunningGateway) -> None:
    await gateway.http.post("/api/v1/agents", json={"name": "free"})
    assert (await gateway.http.put("/api/v1/agents/free", json={})).status_code == 200
