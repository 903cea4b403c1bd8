# ruff: noqa: N802 - the methods' names are the protocol's
"""A fake tools service."""

import hashlib
import json
from typing import Any

from errand.tools.v1 import tools_pb2 as pb
from errand.tools.v1 import tools_pb2_grpc
from errand_common.db import utc_now
from errand_common.errors import Conflict, InvalidArgument, NotFound
from errand_common.principal import current_principal

from errand_gateway.testing.store import TenantStore, paged

_NUMBERS = '{"type":"object","properties":{"expression":{"type":"string"}}}'


def _kind(tool: pb.Tool) -> pb.ToolKind:
    kinds = {
        "http": pb.TOOL_KIND_HTTP,
        "grpc": pb.TOOL_KIND_GRPC,
        "wasm": pb.TOOL_KIND_WASM,
        "python": pb.TOOL_KIND_PYTHON,
    }
    given = [kind for name, kind in kinds.items() if tool.HasField(name)]
    if len(given) != 1:
        raise InvalidArgument("give exactly one of http, grpc, wasm and python", field="tool.http")
    return given[0]


class FakeTools(tools_pb2_grpc.ToolsServiceServicer):
    """Has one built-in tool, `calculator`, and what a tenant registers."""

    def __init__(self) -> None:
        self._tools: TenantStore[pb.Tool] = TenantStore("tool")
        self._effects: TenantStore[pb.Effect] = TenantStore("effect")
        self._settings: TenantStore[bool] = TenantStore("tool")
        self._secrets: TenantStore[pb.Secret] = TenantStore("secret")
        self._servers: TenantStore[pb.McpServer] = TenantStore("mcp server")
        self._earlier: TenantStore[pb.Tool] = TenantStore("tool")
        self.secret_values: dict[str, str] = {}

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

    async def EraseTenant(self, request: pb.EraseTenantRequest, context: Any) -> pb.EraseTenantResponse:
        """Forgets tools and secrets."""
        erased = {"tools": self._tools.clear(), "secrets": self._secrets.clear()}
        return pb.EraseTenantResponse(erased={table: rows for table, rows in erased.items() if rows})

    async def RegisterTool(self, request: pb.RegisterToolRequest, context: Any) -> pb.RegisterToolResponse:
        """Registers an HTTP tool."""
        row = pb.Tool()
        row.CopyFrom(request.tool)
        row.kind = _kind(row)
        row.enabled = True
        row.version = 1
        row.timeout_ms = row.timeout_ms or 10_000
        row.policy = row.policy or pb.TOOL_POLICY_AUTO
        row.schema_hash = hashlib.sha256(row.parameters_json.encode()).hexdigest()
        if row.name == "calculator":
            raise Conflict("a built-in tool has this name", resource="tool", id=row.name)
        row.wasm.ClearField("module") if row.HasField("wasm") else None
        return pb.RegisterToolResponse(tool=self._tools.add(row.name, row))

    async def UpdateTool(self, request: pb.UpdateToolRequest, context: Any) -> pb.UpdateToolResponse:
        """Changes a registered tool."""
        known = self._tools.get(request.tool.name)
        if request.expected_version not in (0, known.version):
            raise Conflict("another version is in place", resource="tool", id=known.name)
        self._earlier.put(f"{known.name}@{known.version}", known)
        row = pb.Tool()
        row.CopyFrom(request.tool)
        row.kind, row.enabled, row.version = _kind(row), known.enabled, known.version + 1
        return pb.UpdateToolResponse(tool=self._tools.put(row.name, row))

    async def ListToolVersions(self, request: pb.ListToolVersionsRequest, context: Any) -> pb.ListToolVersionsResponse:
        """The tool as it is and was."""
        earlier = [tool for tool in self._earlier.all() if tool.name == request.name]
        return pb.ListToolVersionsResponse(versions=[self._tool(request.name), *reversed(earlier)])

    async def ReportTools(self, request: pb.ReportToolsRequest, context: Any) -> pb.ReportToolsResponse:
        """Says that the calculator was called for as many times as days were asked for."""
        errors = [pb.ArgumentErrors(argument="expression", calls=1)]
        row = pb.ToolQuality(
            name=request.name or "calculator",
            version=1,
            schema_hash="0" * 12,
            calls=request.days,
            succeeded=request.days - 1,
            invalid_arguments=1,
            p50_ms=1.5,
            p95_ms=2.5,
            p99_ms=3.5,
            cost_micros=10,
            argument_errors=errors,
        )
        return pb.ReportToolsResponse(tools=[row])

    async def GetTool(self, request: pb.GetToolRequest, context: Any) -> pb.GetToolResponse:
        """One tool."""
        return pb.GetToolResponse(tool=self._tool(request.name))

    async def ListTools(self, request: pb.ListToolsRequest, context: Any) -> pb.ListToolsResponse:
        """Tools, the built-in one first."""
        tools = [self._builtin(), *sorted(self._tools.all(), key=lambda tool: tool.name)]
        found = [
            tool
            for tool in tools
            if (tool.enabled or not request.enabled_only)
            and request.query.lower() in tool.description.lower()
            and request.kind in (pb.TOOL_KIND_UNSPECIFIED, tool.kind)
            and request.mcp_server in ("", tool.mcp_server)
        ]
        rows, token = paged(found, request.page)
        return pb.ListToolsResponse(tools=rows, next_page_token=token)

    async def ExecuteTool(self, request: pb.ExecuteToolRequest, context: Any) -> pb.ExecuteToolResponse:
        """Says what it was called with; an expression of "fail" fails."""
        self._tool(request.name)
        arguments = json.loads(request.arguments_json)
        if arguments.get("expression") == "fail":
            error = json.dumps({"error": "It failed."})
            return pb.ExecuteToolResponse(status=pb.EXECUTION_STATUS_FAILED, result_json=error)
        tenant = current_principal().tenant_id
        told = {"tool": request.name, "arguments": arguments, "tenant": tenant, "run": request.run_id}
        result = json.dumps(told)
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

    async def LintTool(self, request: pb.LintToolRequest, context: Any) -> pb.LintToolResponse:
        """Finds fault with every tool's description."""
        self._tool(request.name)
        finding = pb.LintFinding(rule="description_short", message="The description is too short.")
        return pb.LintToolResponse(score=70, findings=[finding])

    async def ApproveTool(self, request: pb.ApproveToolRequest, context: Any) -> pb.ApproveToolResponse:
        """Takes over the offer of that hash."""
        tool = self._tool(request.name)
        if tool.offer.schema_hash != request.schema_hash:
            raise Conflict("the tool's server offers nothing of this hash", resource="tool", id=request.name)
        tool.description, tool.parameters_json = tool.offer.description, tool.offer.parameters_json
        tool.schema_hash = tool.offer.schema_hash
        tool.ClearField("offer")
        return pb.ApproveToolResponse(tool=tool)

    async def ImportOpenApi(self, request: pb.ImportOpenApiRequest, context: Any) -> pb.ImportOpenApiResponse:
        """Makes one tool of any document, named after the prefix."""
        tool = pb.Tool(
            name=f"{request.name_prefix}list",
            description=request.document[:100],
            parameters_json=_NUMBERS,
            side_effect=pb.SIDE_EFFECT_NONE,
            policy=pb.TOOL_POLICY_AUTO,
            kind=pb.TOOL_KIND_HTTP,
            http=pb.HttpBinding(method="GET", url_template=request.base_url or "https://x.example", auth=request.auth),
        )
        if not request.dry_run:
            self._tools.put(tool.name, tool)
        skipped = pb.SkippedOperation(operation="GET /file", reason="The body is no JSON.")
        return pb.ImportOpenApiResponse(tools=[tool], skipped=[skipped])

    async def PutSecret(self, request: pb.PutSecretRequest, context: Any) -> pb.PutSecretResponse:
        """Stores a secret."""
        secret = pb.Secret(name=request.name, hosts=request.hosts)
        secret.updated_at.FromDatetime(utc_now())
        self.secret_values[request.name] = request.value
        return pb.PutSecretResponse(secret=self._secrets.put(request.name, secret))

    async def ListSecrets(self, request: pb.ListSecretsRequest, context: Any) -> pb.ListSecretsResponse:
        """The secrets."""
        return pb.ListSecretsResponse(secrets=self._secrets.all())

    async def DeleteSecret(self, request: pb.DeleteSecretRequest, context: Any) -> pb.DeleteSecretResponse:
        """Removes a secret."""
        self._secrets.pop(request.name)
        return pb.DeleteSecretResponse()

    async def RegisterMcpServer(
        self, request: pb.RegisterMcpServerRequest, context: Any
    ) -> pb.RegisterMcpServerResponse:
        """Registers a server with one tool, `NAME.search`."""
        server = self._servers.add(request.server.name, request.server)
        tool = pb.Tool(
            name=f"{server.name}.search",
            description="Finds tickets.",
            parameters_json=_NUMBERS,
            side_effect=server.side_effect,
            policy=server.policy,
            kind=pb.TOOL_KIND_MCP,
            mcp_server=server.name,
            enabled=True,
            schema_hash="0" * 64,
        )
        self._tools.put(tool.name, tool)
        return pb.RegisterMcpServerResponse(server=server, tools=[tool])

    async def ListMcpServers(self, request: pb.ListMcpServersRequest, context: Any) -> pb.ListMcpServersResponse:
        """The servers."""
        return pb.ListMcpServersResponse(servers=self._servers.all())

    async def SyncMcpServer(self, request: pb.SyncMcpServerRequest, context: Any) -> pb.SyncMcpServerResponse:
        """Finds that the tool's words have changed."""
        self._servers.get(request.name)
        tool = self._tools.get(f"{request.name}.search")
        tool.offer.CopyFrom(
            pb.ToolOffer(description="Finds old tickets.", parameters_json=_NUMBERS, schema_hash="1" * 64)
        )
        return pb.SyncMcpServerResponse(held=[tool], removed=[f"{request.name}.old"])

    async def DeleteMcpServer(self, request: pb.DeleteMcpServerRequest, context: Any) -> pb.DeleteMcpServerResponse:
        """Removes a server and its tool."""
        self._servers.pop(request.name)
        self._tools.pop(f"{request.name}.search")
        return pb.DeleteMcpServerResponse()
