"""The official MCP client at the gateway's /mcp."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from errand_gateway.testing.gateway import ADMIN_KEY, RunningGateway
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from .test_admin import make_key, make_tenant
from .test_quotas import ALL

SCHEMA = {"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]}


@asynccontextmanager
async def connected(gateway: RunningGateway, key: str = ADMIN_KEY, mode: str = "auto") -> AsyncIterator[Client]:
    headers = {"authorization": f"Bearer {key}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=30) as http,
        Client(streamable_http_client(f"{gateway.url}/mcp", http_client=http), mode=mode, cache=None) as client,
    ):
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def mail(gateway: RunningGateway) -> AsyncIterator[None]:
    """A tool that asks a person, and one that sends at once."""
    http = {"method": "POST", "url_template": "https://mail.example.com/send"}
    common = {"description": "Sends a mail.", "parameters": SCHEMA, "http": http, "side_effect": "ask"}
    for name, policy in (("asks", "ask"), ("sends", "auto")):
        body = {"name": name, "policy": policy, **common}
        assert (await gateway.http.post("/api/v1/tools", json=body)).status_code == 201
    yield
    for name in ("asks", "sends"):
        await gateway.http.delete(f"/api/v1/tools/{name}")


async def key_of(gateway: RunningGateway, roles: list[str], scopes: list[str]) -> str:
    body = {"name": "mcp", "roles": roles, "scopes": scopes}
    made = await gateway.http.post("/api/v1/admin/keys", json=body)
    assert made.status_code == 201, made.text
    key: str = made.json()["key"]
    return key


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_list_and_call(gateway: RunningGateway, mode: str) -> None:
    async with connected(gateway, mode=mode) as client:
        [tool, agent] = (await client.list_tools()).tools
        assert (tool.name, tool.description) == ("calculator", "Evaluates an arithmetic expression.")
        assert tool.input_schema["properties"] == {"expression": {"type": "string"}}
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint
        assert agent.name == "agents/default"
        result = await client.call_tool("calculator", {"expression": "1 + 1"})
    assert not result.is_error
    expected = {"tool": "calculator", "arguments": {"expression": "1 + 1"}, "tenant": "default"}
    assert result.structured_content is not None
    assert expected.items() <= result.structured_content.items()
    assert json.loads(result.content[0].text) == result.structured_content  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [("calculator", {"expression": "fail"}, "It failed."), ("nope", {}, "nope")],
)
async def test_failures_are_told_to_the_model(
    gateway: RunningGateway, name: str, arguments: dict[str, Any], told: str
) -> None:
    async with connected(gateway) as client:
        result = await client.call_tool(name, arguments)
    assert result.is_error
    assert told in result.content[0].text  # type: ignore[union-attr]


@pytest.mark.usefixtures("mail")
async def test_what_asks_a_person_is_not_offered_and_does_not_run(gateway: RunningGateway) -> None:
    async with connected(gateway) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names == ["calculator", "sends", "agents/default"]
        refused = await client.call_tool("asks", {"to": "ann"})
        sent = await client.call_tool("sends", {"to": "ann"})
    assert refused.is_error
    assert "approval" in refused.content[0].text  # type: ignore[union-attr]
    assert not sent.is_error


@pytest.mark.usefixtures("mail")
async def test_who_may_not_change_anything_gets_what_changes_nothing(gateway: RunningGateway) -> None:
    key = await key_of(gateway, ["user"], ["chat", "tools"])
    async with connected(gateway, key) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names == ["calculator", "agents/default"]
        assert (await client.call_tool("sends", {"to": "ann"})).is_error
        assert not (await client.call_tool("calculator", {"expression": "1"})).is_error


async def test_who_may_only_read_calls_nothing(gateway: RunningGateway) -> None:
    key = await key_of(gateway, ["viewer"], ["chat", "tools"])
    async with connected(gateway, key) as client:
        assert (await client.list_tools()).tools == []
        assert (await client.call_tool("calculator", {"expression": "1"})).is_error
        assert (await client.call_tool("agents/default", {"message": "hello"})).is_error


async def test_an_agent_is_asked_and_its_run_is_kept_and_booked(gateway: RunningGateway) -> None:
    async with connected(gateway) as client:
        asked = await client.call_tool("agents/default", {"message": "hello"})
        wrong = await client.call_tool("agents/default", {"text": "hello"})
        unknown = await client.call_tool("agents/nobody", {"message": "hello"})
    assert not asked.is_error
    assert asked.content[0].text == "You said: hello"  # type: ignore[union-attr]
    assert asked.structured_content is not None
    run = (await gateway.http.get(f"/api/v1/runs/{asked.structured_content['run_id']}")).json()
    assert (run["state"], run["answer"]) == ("ended", "You said: hello")
    assert wrong.is_error
    assert unknown.is_error


async def test_an_agents_run_counts_against_the_quota(gateway: RunningGateway) -> None:
    tenant = await make_tenant(gateway)
    key = (await make_key(gateway, tenant_id=tenant, **ALL))["key"]
    quota = {"tenant_id": tenant, "period": "day", "measure": "tokens", "amount": 1}
    assert (await gateway.http.post("/api/v1/admin/quotas", json=quota)).status_code == 201
    async with connected(gateway, key) as client:
        refused = await client.call_tool("agents/default", {"message": "hello"})
        free = await client.call_tool("calculator", {"expression": "1"})
    assert refused.is_error
    assert "quota" in refused.content[0].text.lower()  # type: ignore[union-attr]
    assert not free.is_error


@pytest.mark.parametrize(("headers", "status"), [({}, 401), ({"authorization": "Bearer errand_x_y"}, 401)])
async def test_without_a_key_nothing_is_answered(gateway: RunningGateway, headers: dict[str, str], status: int) -> None:
    async with gateway.client(None) as client:
        answer = await client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, headers=headers)
    assert answer.status_code == status
    assert answer.json()["code"] == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"[]", 400), (b'{"jsonrpc": "2.0", "id": 1, "method": "tools/none"}', 200), (b"1", 400)],
)
async def test_broken_messages_are_no_fault_of_ours(gateway: RunningGateway, body: bytes, status: int) -> None:
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    answer = await gateway.http.post("/mcp", content=body, headers=headers)
    assert answer.status_code in (status, 400, 404)
    assert "error" in answer.json()
    assert "X-Request-ID" in answer.headers
