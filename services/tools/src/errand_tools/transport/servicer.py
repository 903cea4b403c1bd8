"""errand.tools.v1.ToolsService."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import grpc
from errand.tools.v1 import tools_pb2, tools_pb2_grpc
from errand_common.principal import current_principal

from errand_tools.domain.access import require_editor
from errand_tools.domain.erasure import TenantErasure
from errand_tools.domain.execution import Call
from errand_tools.domain.imports import OpenApiImporter
from errand_tools.domain.mcp import McpBook
from errand_tools.domain.progress import ProgressFeed, Tell, unheard
from errand_tools.domain.registration import Registrar
from errand_tools.domain.registry import ToolRegistry
from errand_tools.domain.secrets import SecretBook
from errand_tools.domain.settlement import EffectBook
from errand_tools.domain.tools import Outcome, Tool
from errand_tools.domain.usage import UsageBook
from errand_tools.transport import conversion, mcp_conversion

Context = grpc.aio.ServicerContext[object, object]


class Executor(Protocol):
    """Runs a tool."""

    async def execute(self, tenant_id: str, call: Call, tell: Tell = unheard) -> Outcome:
        """How the call ended; `tell` is told how far it is."""


@dataclass(frozen=True, slots=True)
class ToolsServicer(tools_pb2_grpc.ToolsServiceServicer):
    """Converts, calls one use case, converts back."""

    registry: ToolRegistry
    registrar: Registrar
    executor: Executor
    effects: EffectBook
    secrets: SecretBook
    importer: OpenApiImporter
    mcp: McpBook
    usage: UsageBook
    erasure: TenantErasure

    async def RegisterTool(
        self, request: tools_pb2.RegisterToolRequest, context: Context
    ) -> tools_pb2.RegisterToolResponse:
        tool = conversion.tool_from_proto(request.tool)
        tool = await self.registrar.register(current_principal(), tool, request.tool.wasm.module)
        return tools_pb2.RegisterToolResponse(tool=_shown(tool))

    async def UpdateTool(self, request: tools_pb2.UpdateToolRequest, context: Context) -> tools_pb2.UpdateToolResponse:
        tool = conversion.tool_from_proto(request.tool)
        updated = await self.registrar.update(
            current_principal(), tool, request.tool.wasm.module, expected_version=request.expected_version
        )
        return tools_pb2.UpdateToolResponse(tool=_shown(updated))

    async def ListToolVersions(
        self, request: tools_pb2.ListToolVersionsRequest, context: Context
    ) -> tools_pb2.ListToolVersionsResponse:
        versions = await self.registry.versions(current_principal().tenant_id, request.name)
        return tools_pb2.ListToolVersionsResponse(versions=[_shown(tool) for tool in versions])

    async def ReportTools(
        self, request: tools_pb2.ReportToolsRequest, context: Context
    ) -> tools_pb2.ReportToolsResponse:
        principal = current_principal()
        require_editor(principal)
        rows = await self.usage.report(principal.tenant_id, days=request.days, name=request.name)
        return tools_pb2.ReportToolsResponse(tools=[conversion.quality_to_proto(row) for row in rows])

    async def GetTool(self, request: tools_pb2.GetToolRequest, context: Context) -> tools_pb2.GetToolResponse:
        tool = await self.registry.get(current_principal().tenant_id, request.name)
        return tools_pb2.GetToolResponse(tool=_shown(tool))

    async def ListTools(self, request: tools_pb2.ListToolsRequest, context: Context) -> tools_pb2.ListToolsResponse:
        page = await self.registry.list_page(
            current_principal().tenant_id,
            conversion.page_from_proto(request.page),
            conversion.tool_filter_from_proto(request),
        )
        return tools_pb2.ListToolsResponse(
            tools=[_shown(tool) for tool in page.tools],
            next_page_token=conversion.page_token(page.next_cursor),
        )

    async def SetToolEnabled(
        self, request: tools_pb2.SetToolEnabledRequest, context: Context
    ) -> tools_pb2.SetToolEnabledResponse:
        tool = await self.registry.set_enabled(current_principal(), request.name, enabled=request.enabled)
        return tools_pb2.SetToolEnabledResponse(tool=_shown(tool))

    async def DeleteTool(self, request: tools_pb2.DeleteToolRequest, context: Context) -> tools_pb2.DeleteToolResponse:
        await self.registry.delete(current_principal(), request.name)
        return tools_pb2.DeleteToolResponse()

    async def ExecuteTool(
        self, request: tools_pb2.ExecuteToolRequest, context: Context
    ) -> tools_pb2.ExecuteToolResponse:
        principal = current_principal()
        call = conversion.call_from_proto(request, principal.roles)
        outcome = await self.executor.execute(principal.tenant_id, call)
        return conversion.outcome_to_proto(outcome)

    async def ExecuteToolStream(
        self, request: tools_pb2.ExecuteToolStreamRequest, context: Context
    ) -> AsyncGenerator[tools_pb2.ExecuteToolStreamResponse]:
        principal, feed = current_principal(), ProgressFeed()
        call = conversion.call_from_proto(request.request, principal.roles)
        work = asyncio.ensure_future(self.executor.execute(principal.tenant_id, call, feed.tell))
        try:
            async with aclosing(feed.until(work)) as told:
                async for progress in told:
                    yield tools_pb2.ExecuteToolStreamResponse(progress=conversion.progress_to_proto(progress))
            yield tools_pb2.ExecuteToolStreamResponse(result=conversion.outcome_to_proto(work.result()))
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def ListEffects(
        self, request: tools_pb2.ListEffectsRequest, context: Context
    ) -> tools_pb2.ListEffectsResponse:
        page = await self.effects.list_page(
            current_principal().tenant_id,
            conversion.effects_page_from_proto(request.page),
            conversion.filter_from_proto(request),
        )
        return tools_pb2.ListEffectsResponse(
            effects=[conversion.effect_to_proto(effect) for effect in page.effects],
            next_page_token=conversion.page_token(page.next_cursor),
        )

    async def SettleEffect(
        self, request: tools_pb2.SettleEffectRequest, context: Context
    ) -> tools_pb2.SettleEffectResponse:
        effect = await self.effects.settle(current_principal(), request.effect_id, request.result_json)
        return tools_pb2.SettleEffectResponse(effect=conversion.effect_to_proto(effect))

    async def PutSecret(self, request: tools_pb2.PutSecretRequest, context: Context) -> tools_pb2.PutSecretResponse:
        hosts = tuple(request.hosts)
        secret = await self.secrets.put(current_principal(), request.name, request.value, hosts)
        return tools_pb2.PutSecretResponse(secret=conversion.secret_to_proto(secret))

    async def ListSecrets(
        self, request: tools_pb2.ListSecretsRequest, context: Context
    ) -> tools_pb2.ListSecretsResponse:
        secrets = await self.secrets.list(current_principal())
        return tools_pb2.ListSecretsResponse(secrets=[conversion.secret_to_proto(secret) for secret in secrets])

    async def DeleteSecret(
        self, request: tools_pb2.DeleteSecretRequest, context: Context
    ) -> tools_pb2.DeleteSecretResponse:
        await self.secrets.delete(current_principal(), request.name)
        return tools_pb2.DeleteSecretResponse()

    async def ImportOpenApi(
        self, request: tools_pb2.ImportOpenApiRequest, context: Context
    ) -> tools_pb2.ImportOpenApiResponse:
        found = await self.importer.run(
            current_principal(),
            request.document,
            conversion.import_options_from_proto(request),
            replace=request.replace,
            dry_run=request.dry_run,
        )
        return conversion.operations_to_proto(found, current_principal().roles)

    async def RegisterMcpServer(
        self, request: tools_pb2.RegisterMcpServerRequest, context: Context
    ) -> tools_pb2.RegisterMcpServerResponse:
        server = mcp_conversion.server_from_proto(request.server)
        tools, skipped = await self.mcp.register(current_principal(), server)
        return tools_pb2.RegisterMcpServerResponse(
            server=mcp_conversion.server_to_proto(server),
            tools=[_shown(tool) for tool in tools],
            skipped=conversion.skipped_to_proto(skipped),
        )

    async def ListMcpServers(
        self, request: tools_pb2.ListMcpServersRequest, context: Context
    ) -> tools_pb2.ListMcpServersResponse:
        servers = await self.mcp.servers(current_principal())
        return tools_pb2.ListMcpServersResponse(servers=[mcp_conversion.server_to_proto(server) for server in servers])

    async def DeleteMcpServer(
        self, request: tools_pb2.DeleteMcpServerRequest, context: Context
    ) -> tools_pb2.DeleteMcpServerResponse:
        await self.mcp.delete(current_principal(), request.name)
        return tools_pb2.DeleteMcpServerResponse()

    async def SyncMcpServer(
        self, request: tools_pb2.SyncMcpServerRequest, context: Context
    ) -> tools_pb2.SyncMcpServerResponse:
        principal = current_principal()
        return mcp_conversion.synced_to_proto(await self.mcp.sync(principal, request.name), principal.roles)

    async def ApproveTool(
        self, request: tools_pb2.ApproveToolRequest, context: Context
    ) -> tools_pb2.ApproveToolResponse:
        tool = await self.mcp.approve(current_principal(), request.name, request.schema_hash)
        return tools_pb2.ApproveToolResponse(tool=_shown(tool))

    async def LintTool(self, request: tools_pb2.LintToolRequest, context: Context) -> tools_pb2.LintToolResponse:
        rating = await self.registry.lint(current_principal().tenant_id, request.name)
        return conversion.rating_to_proto(rating)

    async def EraseTenant(
        self, request: tools_pb2.EraseTenantRequest, context: Context
    ) -> tools_pb2.EraseTenantResponse:
        return tools_pb2.EraseTenantResponse(erased=await self.erasure.erase(current_principal(), request.tenant_id))


def _shown(tool: Tool) -> tools_pb2.Tool:
    """The tool as the caller sees it."""
    return conversion.tool_to_proto(tool, current_principal().roles)
