"""Secrets, MCP servers, imports, ratings and calls of tools over REST."""

from typing import Any

import pytest
from errand_common.db import new_id
from errand_gateway.testing.gateway import RunningGateway

HTTP = {"method": "GET", "url_template": "https://shop.example.com/orders"}
SERVER = {"url": "https://tickets.example.com/mcp", "auth": {"scheme": "bearer", "secret": "tickets"}}

NO_OAUTH = {"token_url": "", "client_id": "", "scope": ""}
OAUTH = {
    "scheme": "client_credentials",
    "secret": "shop",
    "header": "",
    "token_url": "https://login.example.com/token",
    "client_id": "errand",
    "scope": "orders",
}


@pytest.fixture
def name() -> str:
    return new_id("x").replace("_", "-")


async def test_a_secret_is_stored_and_never_shown(gateway: RunningGateway, name: str) -> None:
    value = f"hunter2-{name}"
    stored = await gateway.http.post("/api/v1/secrets", json={"name": name, "value": value, "hosts": ["a.example"]})
    assert stored.status_code == 201
    assert gateway.backend.tools.secret_values[name] == value
    listed = await gateway.http.get("/api/v1/secrets")
    assert [row["hosts"] for row in listed.json()["items"] if row["name"] == name] == [["a.example"]]
    assert value not in stored.text + listed.text
    assert (await gateway.http.delete(f"/api/v1/secrets/{name}")).status_code == 204
    assert (await gateway.http.delete(f"/api/v1/secrets/{name}")).status_code == 404


@pytest.mark.parametrize("value", ["two\nlines", "naïve", "", "x" * 8193])
async def test_a_refused_secret_is_not_repeated(
    gateway: RunningGateway, name: str, value: str, capfd: pytest.CaptureFixture[str]
) -> None:
    refused = await gateway.http.post("/api/v1/secrets", json={"name": name, "value": value})
    assert refused.status_code == 422
    assert refused.json()["details"]["fields"][0]["field"] == "value"
    assert not value or value not in refused.text + "".join(capfd.readouterr())


async def test_an_mcp_server_is_registered_synced_approved_and_removed(gateway: RunningGateway, name: str) -> None:
    server = name[:32]
    made = (await gateway.http.post("/api/v1/mcp-servers", json={"name": server, **SERVER})).json()
    assert made["server"]["auth"] == {**NO_OAUTH, "scheme": "bearer", "secret": "tickets", "header": ""}
    assert (made["server"]["side_effect"], made["server"]["policy"]) == ("ask", "ask")
    tool = f"/api/v1/tools/{server}.search"
    found = (await gateway.http.get(tool)).json()
    assert (found["kind"], found["mcp_server"], found["offer"]) == ("mcp", server, None)
    synced = (await gateway.http.post(f"/api/v1/mcp-servers/{server}/sync")).json()
    offer = synced["held"][0]["offer"]
    assert (offer["description"], synced["removed"]) == ("Finds old tickets.", [f"{server}.old"])
    stale = await gateway.http.post(f"{tool}/approve", json={"schema_hash": "2" * 64})
    assert stale.status_code == 409
    approved = await gateway.http.post(f"{tool}/approve", json={"schema_hash": offer["schema_hash"]})
    assert (approved.json()["description"], approved.json()["offer"]) == ("Finds old tickets.", None)
    assert server in [row["name"] for row in (await gateway.http.get("/api/v1/mcp-servers")).json()["items"]]
    assert (await gateway.http.delete(f"/api/v1/mcp-servers/{server}")).status_code == 204
    assert (await gateway.http.get(tool)).status_code == 404


async def test_mcp_servers_cannot_promise_keys(gateway: RunningGateway, name: str) -> None:
    body = {"name": name[:32], **SERVER, "side_effect": "idempotent"}
    refused = await gateway.http.post("/api/v1/mcp-servers", json=body)
    assert refused.json()["details"]["fields"][0]["field"] == "side_effect"


async def test_a_large_document_is_imported(gateway: RunningGateway, name: str) -> None:
    auth = {**NO_OAUTH, "scheme": "header", "secret": "shop", "header": "X-Api-Key"}
    body = {"document": "{} " + "x" * 3_000_000, "name_prefix": f"{name[:20]}.", "auth": auth}
    imported = await gateway.http.post("/api/v1/tools/import", json=body)
    assert imported.status_code == 200
    tool = imported.json()["tools"][0]
    assert (tool["name"], tool["http"]["auth"]) == (f"{name[:20]}.list", auth)
    assert imported.json()["skipped"][0]["operation"] == "GET /file"
    assert (await gateway.http.delete(f"/api/v1/tools/{tool['name']}")).status_code == 204


@pytest.mark.parametrize(
    "sent",
    [
        {"body_argument": "order", "body_template": None},
        {"body_argument": "", "body_template": {"items": ["{order}"], "source": "errand"}},
    ],
)
async def test_a_tool_keeps_its_endpoint_whole(gateway: RunningGateway, name: str, sent: dict[str, Any]) -> None:
    http = {
        "method": "POST", "url_template": "https://shop.example.com/orders", "query_arguments": ["dry"],
        "auth": OAUTH, **sent,
    }  # fmt: skip
    parameters = {"type": "object", "properties": {"dry": {"type": "boolean"}, "order": {"type": "object"}}}
    body = {"name": name, "description": "Orders.", "parameters": parameters, "http": http}
    assert (await gateway.http.post("/api/v1/tools", json=body)).json()["http"] == http
    rating = (await gateway.http.get(f"/api/v1/tools/{name}/lint")).json()
    assert (rating["score"], rating["findings"][0]["rule"]) == (70, "description_short")
    assert (await gateway.http.delete(f"/api/v1/tools/{name}")).status_code == 204


async def test_a_call_is_made_once_for_each_key(gateway: RunningGateway) -> None:
    path, body = "/api/v1/tools/calculator/call", {"arguments": {"expression": "1+1"}}
    called = (await gateway.http.post(path, json=body)).json()
    assert (called["status"], called["result"]["arguments"]) == ("succeeded", {"expression": "1+1"})
    failed = (await gateway.http.post(path, json={"arguments": {"expression": "fail"}})).json()
    assert (failed["status"], failed["result"]) == ("failed", {"error": "It failed."})
    keys = ["a", "a", "b", None]
    runs = [
        (await gateway.http.post(path, json=body, headers={"Idempotency-Key": key} if key else {})).json()["result"][
            "run"
        ]
        for key in keys
    ]
    assert runs[0] == runs[1]
    assert len(set(runs)) == 3
    assert (await gateway.http.post("/api/v1/tools/nobody/call", json=body)).status_code == 404


PARAMETERS = {"type": "object", "properties": {"id": {"type": "integer"}}}


async def test_a_tool_is_changed_only_at_the_version_seen(gateway: RunningGateway, name: str) -> None:
    body = {"description": "Reads an order.", "parameters": PARAMETERS, "http": HTTP}
    await gateway.http.post("/api/v1/tools", json={"name": name, **body})
    path = f"/api/v1/tools/{name}"
    seen = (await gateway.http.get(path)).headers["etag"]
    rules = {
        "limits": {"calls_per_minute": 30, "concurrent_calls": 2},
        "cost_micros": 5,
        "role_policies": {"viewer": "deny"},
        "result_schema": {"type": "object"},
        "examples": [{"id": 7}],
        "retry": "transient",
    }
    changed = await gateway.http.put(path, json={**body, **rules}, headers={"If-Match": seen})
    assert (seen, changed.headers["etag"]) == ('"1"', '"2"')
    told = changed.json()
    assert {key: told[key] for key in rules} == rules
    late = await gateway.http.put(path, json=body, headers={"If-Match": seen})
    assert (late.status_code, late.json()["code"]) == (412, "CONFLICT")
    versions = (await gateway.http.get(f"{path}/versions")).json()["items"]
    assert [(one["version"], one["cost_micros"]) for one in versions] == [(2, 5), (1, 0)]
    assert (await gateway.http.delete(path)).status_code == 204


@pytest.mark.parametrize(
    ("kind", "binding", "shown", "side_effect"),
    [
        ("python", {"code": "id + 1"}, {"code": "id + 1"}, "none"),
        ("wasm", {"module": "AGFzbQ==", "memory_mib": 8}, {"sha256": "", "memory_mib": 8}, "none"),
        (
            "grpc",
            {"target": "a.example:443", "method": "shop.v1.Orders/Get"},
            {"target": "a.example:443", "method": "shop.v1.Orders/Get", "plaintext": False, "auth": None},
            "ask",
        ),
    ],
)
async def test_tools_of_every_kind_are_registered(
    gateway: RunningGateway,
    name: str,
    kind: str,
    binding: dict[str, object],
    shown: dict[str, object],
    side_effect: str,
) -> None:
    body = {"name": name, "description": "Does it.", kind: binding}
    made = (await gateway.http.post("/api/v1/tools", json=body)).json()
    assert (made["kind"], made[kind], made["http"]) == (kind, shown, None)
    assert made["side_effect"] == side_effect, "what was not said: code that reaches nothing outside changes nothing"
    found = (await gateway.http.get("/api/v1/tools", params={"kind": kind, "query": "does it"})).json()["items"]
    assert [tool["name"] for tool in found] == [name]
    assert (await gateway.http.delete(f"/api/v1/tools/{name}")).status_code == 204


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"wasm": {"module": "not base64"}}, "wasm.module"),
        ({"wasm": {"module": "A" * 3 * 2**20}}, "wasm.module"),
        ({"python": {"code": " "}}, "python.code"),
        ({"grpc": {"target": "a.example", "method": "x/y"}}, "grpc.target"),
        ({"python": {"code": "1"}, "role_policies": {"viewer": "maybe"}}, "role_policies.viewer"),
        ({}, "tool.http"),
    ],
)
async def test_what_is_no_tool_is_refused_by_field(
    gateway: RunningGateway, name: str, body: dict[str, object], field: str
) -> None:
    refused = await gateway.http.post("/api/v1/tools", json={"name": name, "description": "Does it.", **body})
    assert (refused.status_code, refused.json()["details"]["fields"][0]["field"]) == (422, field), refused.text[:300]


async def test_the_report_is_for_one_tool_and_some_days(gateway: RunningGateway) -> None:
    [row] = (await gateway.http.get("/api/v1/tool-reports", params={"days": 30})).json()["items"]
    assert (row["name"], row["calls"], row["p95_ms"]) == ("calculator", 30, 2.5)
    assert row["argument_errors"] == [{"argument": "expression", "calls": 1}]
    [row] = (await gateway.http.get("/api/v1/tool-reports", params={"tool": "other"})).json()["items"]
    assert (row["name"], row["calls"]) == ("other", 7)
    assert (await gateway.http.get("/api/v1/tool-reports", params={"days": 91})).status_code == 422
