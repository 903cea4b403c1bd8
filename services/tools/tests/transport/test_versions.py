"""Changing tools, their versions, finding them, and the quality report, over gRPC."""

from typing import Any

import pytest
from errand.tools.v1 import tools_pb2 as pb
from errand_common.errors import Conflict, InvalidArgument, NotFound, PermissionDenied

from .conftest import Endpoint, ToolsClient

SCHEMA = '{"type":"object","properties":{"id":{"type":"integer"}},"required":["id"]}'


def message(endpoint: Endpoint, **changes: Any) -> pb.Tool:
    url = f"http://127.0.0.1:{endpoint.port}/orders/{{id}}"
    tool = pb.Tool(
        name="get_order",
        description="Reads an order of the shop.",
        parameters_json=SCHEMA,
        side_effect=pb.SIDE_EFFECT_NONE,
        http=pb.HttpBinding(method="GET", url_template=url),
    )
    tool.MergeFrom(pb.Tool(**changes))
    return tool


async def test_a_changed_tool_runs_as_changed_and_keeps_its_past(near: ToolsClient, endpoint: Endpoint) -> None:
    made = await near.call("RegisterTool", pb.RegisterToolRequest(tool=message(endpoint)))
    assert (made.tool.version, made.tool.kind) == (1, pb.TOOL_KIND_HTTP)
    url = f"http://127.0.0.1:{endpoint.port}/v2/{{id}}"
    retry = pb.RETRY_CLASS_TRANSIENT
    changed = message(endpoint, http=pb.HttpBinding(url_template=url), cost_micros=30, retry=retry)
    request = pb.UpdateToolRequest(tool=changed, expected_version=1)
    stored = (await near.call("UpdateTool", request)).tool
    assert (made.tool.retry, stored.version, stored.retry) == (pb.RETRY_CLASS_NEVER, 2, retry)
    with pytest.raises(Conflict):
        await near.call("UpdateTool", request)
    _, answer = await near.execute("get_order", id="7")
    assert answer["body"]["target"] == "/v2/7"
    versions = (await near.call("ListToolVersions", pb.ListToolVersionsRequest(name="get_order"))).versions
    assert [(one.version, one.http.url_template[-8:]) for one in versions] == [(2, "/v2/{id}"), (1, "ers/{id}")]
    with pytest.raises(NotFound):
        await near.call("UpdateTool", pb.UpdateToolRequest(tool=changed), tenant="t2")


async def test_a_body_is_as_its_template_says(near: ToolsClient, endpoint: Endpoint) -> None:
    url = f"http://127.0.0.1:{endpoint.port}/hooks"
    template = '{"channel": "C1", "blocks": [{"text": "Order {id}", "id": "{id}"}]}'
    http = pb.HttpBinding(method="POST", url_template=url, body_template_json=template)
    tool = message(endpoint, side_effect=pb.SIDE_EFFECT_ASK, http=http)
    made = await near.call("RegisterTool", pb.RegisterToolRequest(tool=tool))
    assert made.tool.http.body_template_json == template
    _, answer = await near.execute("get_order", id=7)
    assert answer["body"]["body"] == {"channel": "C1", "blocks": [{"text": "Order 7", "id": 7}]}


async def test_tools_are_found(near: ToolsClient, endpoint: Endpoint) -> None:
    await near.call("RegisterTool", pb.RegisterToolRequest(tool=message(endpoint)))

    async def names(**only: Any) -> list[str]:
        return [tool.name for tool in (await near.call("ListTools", pb.ListToolsRequest(**only))).tools]

    assert await names(query="Order SHOP") == ["get_order"]
    assert await names(kind=pb.TOOL_KIND_HTTP) == ["get_order"]
    assert "calculator" in await names(query="arithmetic", kind=pb.TOOL_KIND_BUILTIN)
    assert await names(mcp_server="none") == []


async def test_the_report_tells_how_calls_ended(near: ToolsClient, endpoint: Endpoint) -> None:
    await near.call("RegisterTool", pb.RegisterToolRequest(tool=message(endpoint, cost_micros=30)))
    await near.execute("get_order", id=1)
    await near.execute("get_order", id="x")
    await near.execute("get_order")
    await near.execute("calculator", expression="1+1")
    report = (await near.call("ReportTools", pb.ReportToolsRequest())).tools
    order = report[0]
    assert (order.name, order.version, order.calls, order.succeeded, order.invalid_arguments) == (
        "get_order", 1, 3, 1, 2,
    )  # fmt: skip
    assert [(one.argument, one.calls) for one in order.argument_errors] == [("id", 2)]
    assert order.cost_micros == 30
    assert order.p50_ms > 0
    assert [row.name for row in report] == ["get_order", "calculator"]
    only = await near.call("ReportTools", pb.ReportToolsRequest(name="calculator", days=1))
    assert [row.calls for row in only.tools] == [1]
    assert not (await near.call("ReportTools", pb.ReportToolsRequest(), tenant="t2")).tools
    with pytest.raises(PermissionDenied):
        await near.call("ReportTools", pb.ReportToolsRequest(), roles=("viewer",))


async def test_policy_is_by_role(near: ToolsClient, endpoint: Endpoint) -> None:
    rules = [
        pb.RolePolicy(role="admin", policy=pb.TOOL_POLICY_AUTO),
        pb.RolePolicy(role="viewer", policy=pb.TOOL_POLICY_DENY),
    ]
    tool = message(endpoint, policy=pb.TOOL_POLICY_ASK, role_policies=rules)
    await near.call("RegisterTool", pb.RegisterToolRequest(tool=tool))
    for role, policy in (("admin", pb.TOOL_POLICY_AUTO), ("viewer", pb.TOOL_POLICY_DENY), ("user", pb.TOOL_POLICY_ASK)):
        seen = (await near.call("GetTool", pb.GetToolRequest(name="get_order"), roles=(role,))).tool
        assert (seen.policy, seen.effective_policy) == (pb.TOOL_POLICY_ASK, policy)
    call = pb.ExecuteToolRequest(name="get_order", arguments_json='{"id": 1}', run_id="r", step=1)
    denied = await near.call("ExecuteTool", call, roles=("viewer",))
    assert denied.status == pb.EXECUTION_STATUS_DENIED
    tool.role_policies.append(rules[0])
    with pytest.raises(InvalidArgument, match="twice"):
        await near.call("UpdateTool", pb.UpdateToolRequest(tool=tool))
