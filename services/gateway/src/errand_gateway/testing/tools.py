# ruff: noqa: N802 - the methods' names are the protocol's
"""A fake tools service."""

import hashlib
import json
from typing import Any

from errand.tools.v1 import tools_pb2 as pb
from errand.tools.v1 import tools_pb2_grpc
from errand_common.db import utc_now
from errand_common.errors import Conflict, NotFound
from errand_common.principal import current_principal

from errand_gateway.testing.store import TenantStore, paged

_NUMBERS = '{"type":"object","properties":{"expression":{"type":"string"}}}'


class FakeTools(tools_pb2_grpc.ToolsServiceServicer):
    """Has one built-in tool, `calculator`, and what a tenant registers."""

    def __init__(self) -> None:
        self._tools: TenantStore[pb.Tool] = TenantStore("tool")
        self._effects: TenantStore[pb.Effect] = TenantStore("effect")
        self._settings: TenantStore[bool] = TenantStore("tool")

    def add_effect(self, effect: pb.Effect) -> None:
        """Puts an effect into the ledger of the current principal's tenant."""
        self._effects.put(effect.id, effect)

    def _builtin(self) -> pb.Tool:
        try:
            enabled = self._settings.get("calculator")
        except NotFound:
            enabled = True
        return pb.Tool(
            name="calculator",
            description="Evaluates an arithmetic expression.",
            parameters_json=_NUMBERS,
            timeout_ms=10_000,
            side_effect=pb.SIDE_EFFECT_NONE,
            policy=pb.TOOL_POLICY_AUTO,
            kind=pb.TOOL_KIND_BUILTIN,
            enabled=enabled,
        )

    def _tool(self, name: str) -> pb.Tool:
        return self._builtin() if name == "calculator" else self._tools.get(name)

    async def RegisterTool(self, request: pb.RegisterToolRequest, context: Any) -> pb.RegisterToolResponse:
        """Registers an HTTP tool."""
        row = pb.Tool()
        row.CopyFrom(request.tool)
        row.kind = pb.TOOL_KIND_HTTP
        row.enabled = True
        row.timeout_ms = row.timeout_ms or 10_000
        row.policy = row.policy or pb.TOOL_POLICY_AUTO
        row.schema_hash = hashlib.sha256(row.parameters_json.encode()).hexdigest()
        if row.name == "calculator":
            raise Conflict("a built-in tool has this name", resource="tool", id=row.name)
        return pb.RegisterToolResponse(tool=self._tools.add(row.name, row))

    async def GetTool(self, request: pb.GetToolRequest, context: Any) -> pb.GetToolResponse:
        """One tool."""
        return pb.GetToolResponse(tool=self._tool(request.name))

    async def ListTools(self, request: pb.ListToolsRequest, context: Any) -> pb.ListToolsResponse:
        """Tools, the built-in one first."""
        tools = [self._builtin(), *sorted(self._tools.all(), key=lambda tool: tool.name)]
        found = [tool for tool in tools if tool.enabled or not request.enabled_only]
        rows, token = paged(found, request.page)
        return pb.ListToolsResponse(tools=rows, next_page_token=token)

    async def ExecuteTool(self, request: pb.ExecuteToolRequest, context: Any) -> pb.ExecuteToolResponse:
        """Says what it was called with; an expression of "fail" fails."""
        self._tool(request.name)
        arguments = json.loads(request.arguments_json)
        if arguments.get("expression") == "fail":
            error = json.dumps({"error": "It failed."})
            return pb.ExecuteToolResponse(status=pb.EXECUTION_STATUS_FAILED, result_json=error)
        result = json.dumps({"tool": request.name, "arguments": arguments, "tenant": current_principal().tenant_id})
        return pb.ExecuteToolResponse(status=pb.EXECUTION_STATUS_SUCCEEDED, result_json=result)

    async def SetToolEnabled(self, request: pb.SetToolEnabledRequest, context: Any) -> pb.SetToolEnabledResponse:
        """Turns a tool on or off."""
        tool = self._tool(request.name)
        tool.enabled = request.enabled
        self._settings.put(request.name, request.enabled)
        return pb.SetToolEnabledResponse(tool=tool)

    async def DeleteTool(self, request: pb.DeleteToolRequest, context: Any) -> pb.DeleteToolResponse:
        """Removes a registered tool."""
        if request.name == "calculator":
            raise Conflict("built-in tools can only be turned off", resource="tool", id=request.name)
        self._tools.pop(request.name)
        return pb.DeleteToolResponse()

    async def ListEffects(self, request: pb.ListEffectsRequest, context: Any) -> pb.ListEffectsResponse:
        """Ledger entries, newest first."""
        found = [
            effect
            for effect in reversed(self._effects.all())
            if request.run_id in ("", effect.run_id) and request.state in (pb.EFFECT_STATE_UNSPECIFIED, effect.state)
        ]
        rows, token = paged(found, request.page)
        return pb.ListEffectsResponse(effects=rows, next_page_token=token)

    async def SettleEffect(self, request: pb.SettleEffectRequest, context: Any) -> pb.SettleEffectResponse:
        """Settles an effect."""
        effect = self._effects.get(request.effect_id)
        if effect.state != pb.EFFECT_STATE_UNSETTLED:
            raise Conflict("the effect is settled", resource="effect", id=effect.id)
        effect.state = pb.EFFECT_STATE_COMPLETED
        effect.status = pb.EXECUTION_STATUS_SUCCEEDED
        effect.completed_at.FromDatetime(utc_now())
        return pb.SettleEffectResponse(effect=effect)
