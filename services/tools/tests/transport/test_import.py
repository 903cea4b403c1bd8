"""An OpenAPI document from the RPC to a real request."""

import json
from typing import Any

import pytest
from errand.tools.v1 import tools_pb2
from errand_common.errors import InvalidArgument, PermissionDenied
from errand_tools.builtin import BUILTIN_TOOLS

BUILTINS = len(BUILTIN_TOOLS)


def document(port: int, operations: int = 2) -> str:
    item = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    paths = {f"/items{n}/{{id}}": {"get": {"operationId": f"item{n}", "parameters": [item]}} for n in range(operations)}
    return json.dumps({"openapi": "3.1.0", "servers": [{"url": f"http://127.0.0.1:{port}"}], "paths": paths})


def request(text: str, **more: Any) -> tools_pb2.ImportOpenApiRequest:
    return tools_pb2.ImportOpenApiRequest(document=text, **more)


async def test_import_and_call(near: Any, endpoint: Any) -> None:
    await near.call("PutSecret", tools_pb2.PutSecretRequest(name="key", value="tok-0123456789"))
    auth = tools_pb2.HttpAuth(scheme=tools_pb2.HTTP_AUTH_SCHEME_HEADER, secret="key", header="X-Api-Key")
    text = document(endpoint.port)
    planned = await near.call("ImportOpenApi", request(text, name_prefix="shop.", auth=auth, dry_run=True))
    assert [tool.name for tool in planned.tools] == ["shop.item0", "shop.item1"]
    assert len((await near.call("ListTools", tools_pb2.ListToolsRequest(enabled_only=True))).tools) == BUILTINS
    done = await near.call("ImportOpenApi", request(text, name_prefix="shop.", auth=auth))
    assert [tool.name for tool in done.tools] == ["shop.item0", "shop.item1"]
    status, result = await near.execute("shop.item1", id="a/b")
    assert status == tools_pb2.EXECUTION_STATUS_SUCCEEDED
    assert result["body"]["target"] == "/items1/a%2Fb"
    assert endpoint.requests[0]["headers"]["x-api-key"] == "tok-0123456789"


async def test_names_that_are_taken_are_skipped_or_replaced(near: Any, endpoint: Any) -> None:
    await near.call("ImportOpenApi", request(document(endpoint.port, 1)))
    await near.call("SetToolEnabled", tools_pb2.SetToolEnabledRequest(name="item0", enabled=False))
    again = await near.call("ImportOpenApi", request(document(endpoint.port)))
    assert [tool.name for tool in again.tools] == ["item1"]
    assert [(one.operation, one.reason) for one in again.skipped] == [
        ("item0", "A tool of this name is registered already.")
    ]
    replaced = await near.call("ImportOpenApi", request(document(endpoint.port), replace=True))
    assert [tool.name for tool in replaced.tools] == ["item0", "item1"]
    kept = (await near.call("GetTool", tools_pb2.GetToolRequest(name="item0"))).tool
    assert not kept.enabled


async def test_three_hundred_operations_are_all_there(near: Any, endpoint: Any) -> None:
    done = await near.call("ImportOpenApi", request(document(endpoint.port, 300)))
    assert len(done.tools) == 300
    assert (await near.execute("item299", id="x"))[0] == tools_pb2.EXECUTION_STATUS_SUCCEEDED


async def test_who_may_and_what_is_wrong(near: Any, endpoint: Any) -> None:
    with pytest.raises(PermissionDenied):
        await near.call("ImportOpenApi", request(document(1)), roles=("user",))
    with pytest.raises(InvalidArgument, match="RECONCILE"):
        await near.call("ImportOpenApi", request(document(1), side_effect=tools_pb2.SIDE_EFFECT_RECONCILE))
    auth = tools_pb2.HttpAuth(scheme=tools_pb2.HTTP_AUTH_SCHEME_BEARER, secret="none")
    with pytest.raises(InvalidArgument, match="no secret"):
        await near.call("ImportOpenApi", request(document(1), auth=auth))
    assert not endpoint.requests
