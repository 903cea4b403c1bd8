"""Pages of other origins: only those that the operator named."""

from pathlib import Path

import pytest
from errand_common.testing.keys import TestKeys
from errand_gateway.settings import GatewaySettings
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import RunningGateway, running_gateway, test_settings
from pydantic import ValidationError

APP = "https://app.example.com"


def preflight(origin: str) -> dict[str, str]:
    """What a browser asks before it sends a key."""
    return {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-api-key,content-type",
    }


async def test_named_origins_may_call(tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path) -> None:
    settings = test_settings(tmp_path, backend, keys, cors_origins=[APP])
    async with running_gateway(settings, backend, template=template) as gateway:
        asked = await gateway.http.options("/api/v1/chat", headers=preflight(APP))
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == APP
        assert "access-control-allow-credentials" not in asked.headers
        answer = await gateway.http.get("/api/v1/agents", headers={"Origin": APP})
        assert answer.headers["access-control-allow-origin"] == APP
        other = await gateway.http.options("/api/v1/chat", headers=preflight("https://evil.example"))
        assert other.status_code == 400
        assert "access-control-allow-origin" not in other.headers


async def test_no_origin_may_call_unless_named(gateway: RunningGateway) -> None:
    answer = await gateway.http.get("/api/v1/agents", headers={"Origin": APP})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origin", ["*", "app.example.com", "https://*.example.com", "https://app.example.com/"])
def test_origins_are_whole_and_without_wildcards(origin: str) -> None:
    with pytest.raises(ValidationError):
        GatewaySettings(cors_origins=[origin])
