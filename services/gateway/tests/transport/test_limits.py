"""Limits of a tenant, of tokens and of what runs at once, over HTTP."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from errand_common.testing.keys import TestKeys
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import RunningGateway, running_gateway, test_settings

from .test_admin import make_key

CHAT = {"messages": [{"role": "user", "content": "hi"}], "model": "tiny"}


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Waits until something holds."""
    async with asyncio.timeout(10):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.02)


async def answers(value: bool) -> bool:
    """The value, awaited."""
    return value


async def is_let_in(gateway: RunningGateway) -> bool:
    """Whether a chat is answered."""
    return (await gateway.http.post("/api/v1/chat", json={"message": "hi"})).status_code == 200


async def test_all_keys_of_a_tenant_together(
    tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path
) -> None:
    settings = test_settings(tmp_path, backend, keys, tenant_rate_limit="4/minute")
    async with running_gateway(settings, backend, template=template) as gateway:
        other = await make_key(gateway)
        async with gateway.client(other["key"]) as http:
            answers = [await http.get("/api/v1/agents") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert "tenant" in answers[3].json()["message"]
    assert int(answers[3].headers["retry-after"]) >= 1


async def test_tokens_of_a_minute(tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path) -> None:
    settings = test_settings(tmp_path, backend, keys, token_limit="10/minute")
    async with running_gateway(settings, backend, template=template) as gateway:
        first = await gateway.http.post("/v1/chat/completions", json=CHAT)
        second = await gateway.http.post("/v1/chat/completions", json=CHAT)
        reading = await gateway.http.get("/api/v1/agents")
    assert first.status_code == 200
    assert (first.headers["x-ratelimit-limit-tokens"], first.headers["x-ratelimit-remaining-tokens"]) == ("10", "10")
    assert second.status_code == 429
    assert second.json()["error"]["code"] == "rate_limit_exceeded"
    assert int(second.headers["retry-after"]) >= 1
    assert reading.status_code == 200


async def test_what_runs_at_once(tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path) -> None:
    settings = test_settings(tmp_path, backend, keys, max_running_per_key=1)
    async with running_gateway(settings, backend, template=template) as gateway:
        slow = asyncio.create_task(gateway.http.post("/api/v1/chat", json={"message": "slow"}))
        await until(lambda: answers(bool(backend.agent.requests)))
        refused = await gateway.http.post("/api/v1/chat", json={"message": "hi"})
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        # A client that goes away gives its place back.
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        await until(lambda: is_let_in(gateway))
