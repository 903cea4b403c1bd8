"""The tools service over gRPC."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import grpc.aio
from errand.tools.v1 import tools_pb2 as pb
from errand.tools.v1.tools_pb2_grpc import ToolsServiceStub
from errand_common.rpc.client import deadline_seconds, translate_errors

from errand_gateway.clients import conversion as convert
from errand_gateway.clients import tool_messages as messages
from errand_gateway.domain import tool_resources as t
from errand_gateway.domain.resources import Page, PageQuery

if TYPE_CHECKING:
    from errand.tools.v1.tools_pb2_grpc import ToolsServiceAsyncStub

DEPENDENCY: Final = "tools"
# Longer than any tool may take, so that the tools service's own limit decides.
_EXECUTE_SECONDS: Final = 310.0
# A server is connected to, a document of 8 MiB read or a module compiled within the call.
_SLOW_SECONDS: Final = 60.0


class GrpcToolBackend:
    """ToolBackend on a channel."""

    def __init__(self, channel: grpc.aio.Channel, *, call_seconds: float = 10.0) -> None:
        self._stub: ToolsServiceAsyncStub = ToolsServiceStub(channel)
        self._call_seconds = call_seconds

    @property
    def _timeout(self) -> float:
        return deadline_seconds(self._call_seconds)

    async def register(self, tool: t.Tool, module: bytes = b"") -> t.Tool:
        """Registers a tool, a WebAssembly one with its module."""
        request = pb.RegisterToolRequest(tool=messages.tool_message(tool, module))
        with translate_errors(DEPENDENCY):
            response = await self._stub.RegisterTool(request, timeout=deadline_seconds(_SLOW_SECONDS))
        return messages.tool(response.tool)

    async def update_tool(self, tool: t.Tool, module: bytes = b"", *, expected_version: int) -> t.Tool:
        """Changes a registered tool at the version seen, 0 for any."""
        message = messages.tool_message(tool, module)
        request = pb.UpdateToolRequest(tool=message, expected_version=expected_version)
        with translate_errors(DEPENDENCY):
            response = await self._stub.UpdateTool(request, timeout=deadline_seconds(_SLOW_SECONDS))
        return messages.tool(response.tool)

    async def list_tool_versions(self, name: str) -> Sequence[t.Tool]:
        """The tool as it was, the newest first."""
        request = pb.ListToolVersionsRequest(name=name)
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListToolVersions(request, timeout=self._timeout)
        return [messages.tool(item) for item in response.versions]

    async def report_tools(self, *, name: str, days: int) -> Sequence[t.ToolQuality]:
        """How calls ended, of one tool or all."""
        request = pb.ReportToolsRequest(name=name, days=days)
        with translate_errors(DEPENDENCY):
            response = await self._stub.ReportTools(request, timeout=self._timeout)
        return [messages.quality(item) for item in response.tools]

    async def get_tool(self, name: str) -> t.Tool:
        """One tool."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.GetTool(pb.GetToolRequest(name=name), timeout=self._timeout)
        return messages.tool(response.tool)

    async def list_tools(self, page: PageQuery, only: t.ToolFilter) -> Page[t.Tool]:
        """Tools, built-in ones first."""
        request = pb.ListToolsRequest(
            page=convert.page_request(page),
            enabled_only=only.enabled_only,
            query=only.query,
            kind=convert.enum_number(pb.ToolKind, "TOOL_KIND_", only.kind),
            mcp_server=only.mcp_server,
        )
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListTools(request, timeout=self._timeout)
        return Page([messages.tool(item) for item in response.tools], response.next_page_token)

    async def set_enabled(self, name: str, *, enabled: bool) -> t.Tool:
        """Turns a tool on or off for the tenant."""
        request = pb.SetToolEnabledRequest(name=name, enabled=enabled)
        with translate_errors(DEPENDENCY):
            response = await self._stub.SetToolEnabled(request, timeout=self._timeout)
        return messages.tool(response.tool)

    async def delete_tool(self, name: str) -> None:
        """Removes a registered tool."""
        with translate_errors(DEPENDENCY):
            await self._stub.DeleteTool(pb.DeleteToolRequest(name=name), timeout=self._timeout)

    async def approve_tool(self, name: str, schema_hash: str) -> t.Tool:
        """Takes over what a held tool's server offers."""
        request = pb.ApproveToolRequest(name=name, schema_hash=schema_hash)
        with translate_errors(DEPENDENCY):
            response = await self._stub.ApproveTool(request, timeout=self._timeout)
        return messages.tool(response.tool)

    async def lint_tool(self, name: str) -> t.ToolRating:
        """How well a small model can use the tool."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.LintTool(pb.LintToolRequest(name=name), timeout=self._timeout)
        return messages.rating(response)

    async def execute_tool(self, name: str, arguments_json: str, *, run_id: str) -> t.ToolResult:
        """Runs a tool once, outside any run."""
        request = pb.ExecuteToolRequest(name=name, arguments_json=arguments_json, run_id=run_id, step=1)
        with translate_errors(DEPENDENCY):
            response = await self._stub.ExecuteTool(request, timeout=deadline_seconds(_EXECUTE_SECONDS))
        return messages.result(response)

    async def import_openapi(self, order: t.ToolImport) -> t.Imported:
        """Registers each operation of a document as a tool."""
        request = messages.import_message(order)
        with translate_errors(DEPENDENCY):
            response = await self._stub.ImportOpenApi(request, timeout=deadline_seconds(_SLOW_SECONDS))
        return messages.imported(response)

    async def list_effects(self, page: PageQuery, *, run_id: str, state: t.EffectState | None) -> Page[t.Effect]:
        """Ledger entries, newest first."""
        request = pb.ListEffectsRequest(
            page=convert.page_request(page),
            run_id=run_id,
            state=convert.enum_number(pb.EffectState, "EFFECT_STATE_", state),
        )
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListEffects(request, timeout=self._timeout)
        return Page([messages.effect(item) for item in response.effects], response.next_page_token)

    async def settle_effect(self, effect_id: str, result_json: str) -> t.Effect:
        """Settles an effect whose outcome is not known."""
        request = pb.SettleEffectRequest(effect_id=effect_id, result_json=result_json)
        with translate_errors(DEPENDENCY):
            response = await self._stub.SettleEffect(request, timeout=self._timeout)
        return messages.effect(response.effect)

    async def put_secret(self, name: str, value: str, hosts: Sequence[str]) -> t.Secret:
        """Stores or replaces a secret."""
        request = pb.PutSecretRequest(name=name, value=value, hosts=hosts)
        with translate_errors(DEPENDENCY):
            response = await self._stub.PutSecret(request, timeout=self._timeout)
        return messages.secret(response.secret)

    async def list_secrets(self) -> Sequence[t.Secret]:
        """The secrets by name, without values."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListSecrets(pb.ListSecretsRequest(), timeout=self._timeout)
        return [messages.secret(item) for item in response.secrets]

    async def delete_secret(self, name: str) -> None:
        """Removes a secret."""
        with translate_errors(DEPENDENCY):
            await self._stub.DeleteSecret(pb.DeleteSecretRequest(name=name), timeout=self._timeout)

    async def register_mcp_server(self, server: t.McpServer) -> t.RegisteredMcpServer:
        """Connects to an MCP server and registers its tools."""
        request = pb.RegisterMcpServerRequest(server=messages.server_message(server))
        with translate_errors(DEPENDENCY):
            response = await self._stub.RegisterMcpServer(request, timeout=deadline_seconds(_SLOW_SECONDS))
        return messages.registered(response)

    async def list_mcp_servers(self) -> Sequence[t.McpServer]:
        """The servers by name."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListMcpServers(pb.ListMcpServersRequest(), timeout=self._timeout)
        return [messages.server(item) for item in response.servers]

    async def sync_mcp_server(self, name: str) -> t.SyncedMcpServer:
        """Reads the server's tools again."""
        request = pb.SyncMcpServerRequest(name=name)
        with translate_errors(DEPENDENCY):
            response = await self._stub.SyncMcpServer(request, timeout=deadline_seconds(_SLOW_SECONDS))
        return messages.synced(response)

    async def erase_tenant(self, tenant_id: str) -> Mapping[str, int]:
        """Rows that were deleted, by table."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.EraseTenant(
                pb.EraseTenantRequest(tenant_id=tenant_id), timeout=deadline_seconds(_SLOW_SECONDS)
            )
        return dict(response.erased)

    async def delete_mcp_server(self, name: str) -> None:
        """Removes a server and its tools."""
        with translate_errors(DEPENDENCY):
            await self._stub.DeleteMcpServer(pb.DeleteMcpServerRequest(name=name), timeout=self._timeout)
