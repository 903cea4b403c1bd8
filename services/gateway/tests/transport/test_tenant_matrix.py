"""For every operation of the OpenAPI description: one tenant's ids are not found by another."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import httpx
from errand_gateway.testing.gateway import RunningGateway

from .test_admin import make_key, make_tenant
from .test_quotas import ALL

# Operations whose path names nothing of a tenant's own, each with the reason.
NOT_TENANTS = {
    "/api/v1/admin/tenants/{tenant_id}": "the operator's alone: refused with 403 to everybody else",
    "/api/v1/admin/tenants/{tenant_id}/deletion": "the same",
    "/api/v1/auth/providers/{provider}/login": "providers are the installation's",
    "/api/v1/auth/providers/{provider}/callback": "the same",
    "/api/v1/auth/providers/{provider}/logout": "the same",
    "/v1/models/{model}": "models are the installation's; agents in it are tested below",
}
# Operations that make what their path names, in the caller's own tenant.
MAKES = {
    ("/api/v1/prompts/{prompt}", "put"),
    ("/api/v1/webhooks/{webhook}", "put"),
    ("/api/v1/workflows/{workflow}", "put"),
    ("/api/v1/schedules/{schedule}", "put"),
}
BODIES: dict[str, Any] = {
    "/api/v1/runs/{run_id}/fork": {"from_model_step": 1},
    "/api/v1/workflows/{workflow}/runs": {"input": "x"},
    "/api/v1/prompts/{prompt}/aliases/{alias}": {"variants": [{"version": 1, "percent": 100}]},
    "/api/v1/runs/{run_id}/feedback": {"helpful": True},
    "/api/v1/agents/{name}": {"description": "x"},
    "/api/v1/tools/{name}": {"enabled": False},
    "put /api/v1/tools/{name}": {"description": "Spies.", "python": {"code": "1"}},
    "/api/v1/tools/{name}/approve": {"schema_hash": "0" * 64},
    "/api/v1/tools/{name}/call": {"arguments": {}},
    "/api/v1/effects/{effect_id}/settle": {"result": 1},
    "/api/v1/collections/{collection_id}": {"description": "x"},
    "/api/v1/collections/{collection_id}/documents/fetch": {"url": "https://example.com/"},
    "/api/v1/collections/{collection_id}/search": {"query": "x"},
    "/api/v1/admin/quotas/{quota_id}": {"amount": 1},
    "/v1/vector_stores/{store_id}/search": {"query": "x"},
    "/v1/vector_stores/{store_id}/files": {"file_id": "file_0"},
}


async def made(http: httpx.AsyncClient, path: str, **request: Any) -> dict[str, Any]:
    """What a POST makes."""
    response = await http.post(path, **request)
    assert response.is_success, response.text
    body: dict[str, Any] = response.json()
    return body


async def belongings(gateway: RunningGateway, http: httpx.AsyncClient, tenant: str) -> dict[str, str]:
    """One thing of each kind of the tenant: ids by path parameter."""
    quota = {"period": "day", "measure": "tokens", "amount": 10**9}
    run = await made(http, "/api/v1/runs", json={"message": "ask first"})
    approval = (await http.get(f"/api/v1/approvals?run_id={run['id']}")).json()["items"][0]
    collection = await made(http, "/api/v1/collections", json={"name": "secrets"})
    documents = f"/api/v1/collections/{collection['id']}/documents"
    gone = await made(http, documents, files={"file": ("gone.txt", b"gone")})
    deleted = await http.delete(f"{documents}/{gone['document']['id']}")
    document = await made(http, documents, files={"file": ("a.txt", b"a")})
    agent = await made(http, "/api/v1/agents", json={"name": "spy"})
    parameters: dict[str, Any] = {"type": "object", "properties": {}}
    binding = {"method": "GET", "url_template": "https://example.com/"}
    tool = {"name": "spy", "description": "Spies.", "parameters": parameters, "http": binding}
    await made(http, "/api/v1/tools", json=tool)
    await made(http, "/api/v1/secrets", json={"name": "spy", "value": "x"})
    await made(http, "/api/v1/mcp-servers", json={"name": "spy", "url": "https://example.com/mcp"})
    workflow = {"nodes": [{"id": "a", "agent": {"message": "x"}}], "max_tokens": 1, "max_seconds": 1}
    assert (await http.put("/api/v1/workflows/spy", json=workflow)).is_success
    hook = {"url": "https://example.com/hook", "events": ["run_ended"]}
    assert (await http.put("/api/v1/webhooks/spy", json=hook)).is_success
    assert (await http.put("/api/v1/prompts/spy", json={"template": "x"})).is_success
    assert (await http.put("/api/v1/schedules/spy", json={"cron": "0 7 * * *", "message": "x"})).is_success
    conversation = run["conversation_id"]
    file = await made(http, "/v1/files", data={"purpose": "assistants"}, files={"file": ("b.txt", b"b")})
    return {
        "run_id": run["id"],
        "approval_id": approval["id"],
        "conversation_id": conversation,
        "item_id": "msg_1",
        "name": agent["name"],
        "workflow": "spy",
        "schedule": "spy",
        "prompt": "spy",
        "webhook": "spy",
        "alias": "live",
        "workflow_run_id": (await made(http, "/api/v1/workflows/spy/runs", json={"input": "x"}))["id"],
        "fact_id": (await made(http, "/api/v1/facts", json={"text": "x"}))["fact"]["id"],
        "effect_id": "eff_nobody",
        "collection_id": collection["id"],
        "document_id": document["document"]["id"],
        "deletion_id": deleted.json()["id"],
        "user_id": (await made(http, "/api/v1/admin/users", json={"email": "a@b.c", "password": "x" * 12}))["id"],
        "key_id": (await made(http, "/api/v1/admin/keys", json={"name": "x"}))["id"],
        "quota_id": (await made(gateway.http, "/api/v1/admin/quotas", json={**quota, "tenant_id": tenant}))["id"],
        "response_id": (await made(http, "/v1/responses", json={"model": "tiny", "input": "x"}))["id"],
        "file_id": file["id"],
        "store_id": collection["id"],
    }


def operations(gateway: RunningGateway) -> Iterator[tuple[str, str]]:
    """Every operation whose path names something."""
    for path, methods in gateway.app.openapi()["paths"].items():
        if "{" in path and path not in NOT_TENANTS:
            yield from (found for found in itertools.product([path], methods) if found not in MAKES)


async def test_no_operation_finds_another_tenants_things(gateway: RunningGateway) -> None:
    tenants = [await make_tenant(gateway) for _ in range(2)]
    keys = [await make_key(gateway, tenant_id=tenant, **ALL) for tenant in tenants]
    async with gateway.client(keys[0]["key"]) as owner, gateway.client(keys[1]["key"]) as stranger:
        ids = await belongings(gateway, owner, tenants[0])
        wrong = []
        for path, method in operations(gateway):
            unknown = set(re.findall(r"{(\w+)}", path)) - set(ids)
            assert not unknown, f"{path}: make one of {unknown} in belongings()"
            request: dict[str, Any] = {}
            if method in ("post", "put", "patch"):
                request["json"] = BODIES.get(f"{method} {path}", BODIES.get(path, {}))
            if path.endswith("/documents") and method == "post":
                request = {"files": {"file": ("a.txt", b"a")}}
            answer = await stranger.request(method, path.format(**ids), **request)
            if answer.status_code != 404:
                wrong.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        assert not wrong, "\n".join(wrong)
        # The owner still has them all, and the stranger's way in is the only thing that was wrong.
        for path in ("/api/v1/runs/{run_id}", "/v1/files/{file_id}", "/v1/responses/{response_id}"):
            assert (await owner.get(path.format(**ids))).status_code == 200
        assert (await stranger.get("/v1/models/agent:spy")).status_code == 404


# What is named in bodies: the operation, and a body that is right but for whose the thing is.
NAMED_IN_BODIES: list[tuple[str, dict[str, Any]]] = [
    ("/api/v1/chat", {"message": "x", "conversation_id": "{conversation_id}"}),
    ("/api/v1/chat", {"message": "x", "agent": "{name}"}),
    ("/api/v1/runs", {"message": "x", "conversation_id": "{conversation_id}"}),
    ("/api/v1/runs", {"message": "x", "agent": "{name}"}),
    ("/api/v1/feedback", {"run_id": "{run_id}", "helpful": True}),
    ("/api/v1/search", {"query": "x", "collections": ["{collection_id}"]}),
    ("/api/v1/admin/quotas", {"subject": "key", "subject_id": "{key_id}", "period": "day", "measure": "tokens"}),
    ("/api/v1/admin/quotas", {"subject": "user", "subject_id": "{user_id}", "period": "day", "measure": "tokens"}),
    ("/v1/chat/completions", {"model": "agent:{name}", "messages": [{"role": "user", "content": "x"}]}),
    ("/v1/responses", {"model": "agent:{name}", "input": "x"}),
    ("/v1/responses", {"model": "tiny", "input": "x", "previous_response_id": "{response_id}"}),
    ("/v1/responses", {"model": "agent:default", "input": "x", "conversation": "{conversation_id}"}),
    ("/v1/vector_stores", {"name": "mine", "file_ids": ["{file_id}"]}),
    ("/v1/vector_stores/{own_store}/files", {"file_id": "{file_id}"}),
]


def filled(value: Any, names: dict[str, str]) -> Any:
    """The value with names put into its texts."""
    if isinstance(value, str):
        return value.format(**names)
    if isinstance(value, list):
        return [filled(item, names) for item in value]
    return {key: filled(item, names) for key, item in value.items()} if isinstance(value, dict) else value


async def test_what_is_named_elsewhere_than_in_paths(gateway: RunningGateway) -> None:
    tenants = [await make_tenant(gateway) for _ in range(2)]
    keys = [await make_key(gateway, tenant_id=tenant, **ALL) for tenant in tenants]
    async with gateway.client(keys[0]["key"]) as owner, gateway.client(keys[1]["key"]) as stranger:
        ids = await belongings(gateway, owner, tenants[0])
        ids["own_store"] = (await made(stranger, "/v1/vector_stores", json={"name": "own"}))["id"]
        for path, body in NAMED_IN_BODIES:
            given = filled(body, ids) | ({"amount": 1} if path.endswith("/quotas") else {})
            answer = await stranger.post(path.format(**ids), json=given)
            assert answer.status_code == 404, (path, body, answer.text)
        for path in (
            "runs?conversation_id={conversation_id}",
            "runs?parent_run_id={run_id}",
            "approvals?run_id={run_id}",
        ):
            assert (await stranger.get(f"/api/v1/{path.format(**ids)}")).json()["items"] == [], path


async def test_no_operation_takes_another_tenants_name(gateway: RunningGateway) -> None:
    """Whoever is not the operator may name no tenant but its own."""
    tenants = [await make_tenant(gateway) for _ in range(2)]
    keys = [await make_key(gateway, tenant_id=tenant, **ALL) for tenant in tenants]
    asked = 0
    async with gateway.client(keys[0]["key"]) as owner, gateway.client(keys[1]["key"]) as stranger:
        ids = await belongings(gateway, owner, tenants[0])
        for path, methods in gateway.app.openapi()["paths"].items():
            for method, operation in methods.items():
                if not any(
                    each["name"] == "tenant_id" and each["in"] == "query" for each in operation.get("parameters", ())
                ):
                    continue
                request: dict[str, Any] = {"params": {"tenant_id": tenants[0]}}
                if "requestBody" in operation:
                    request["json"] = BODIES.get(path, {})
                answer = await stranger.request(method, path.format(**ids), **request)
                assert answer.status_code in (403, 404), (method, path, answer.text)
                asked += 1
    assert asked >= 10
