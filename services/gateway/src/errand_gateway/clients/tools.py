"""The tools service over gRPC."""

from typing import TYPE_CHECKING, Final

import grpc.aio
from errand.tools.v1 import tools_pb2 as pb
from errand.tools.v1.tools_pb2_grpc import ToolsServiceStub
from errand_common.rpc.client import deadline_seconds, translate_errors

from errand_gateway.clients import conversion as convert
from errand_gateway.domain import resources as r

if TYPE_CHECKING:
    from errand.tools.v1.tools_pb2_grpc import ToolsServiceAsyncStub

DEPENDENCY: Final = "tools"
# Longer than any tool may take, so that the tools service's own limit decides.
_EXECUTE_SECONDS: Final = 310.0


class GrpcToolBackend:
    """ToolBackend on a channel."""

    def __init__(self, channel: grpc.aio.Channel, *, call_seconds: float = 10.0) -> None:
        self._stub: ToolsServiceAsyncStub = ToolsServiceStub(channel)
        self._call_seconds = call_seconds

    @property
    def _timeout(self) -> float:
        return deadline_seconds(self._call_seconds)

    async def register(self, tool: r.Tool) -> r.Tool:
        """Registers an HTTP tool."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.RegisterTool(
                pb.RegisterToolRequest(tool=_tool_message(tool)), timeout=self._timeout
            )
        return _tool(response.tool)

    async def get_tool(self, name: str) -> r.Tool:
        """One tool."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.GetTool(pb.GetToolRequest(name=name), timeout=self._timeout)
        return _tool(response.tool)

    async def list_tools(self, page: r.PageQuery, *, enabled_only: bool) -> r.Page[r.Tool]:
        """Tools, built-in ones first."""
        request = pb.ListToolsRequest(page=convert.page_request(page), enabled_only=enabled_only)
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListTools(request, timeout=self._timeout)
        return r.Page([_tool(item) for item in response.tools], response.next_page_token)

    async def set_enabled(self, name: str, *, enabled: bool) -> r.Tool:
        """Turns a tool on or off for the tenant."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.SetToolEnabled(
                pb.SetToolEnabledRequest(name=name, enabled=enabled), timeout=self._timeout
            )
        return _tool(response.tool)

    async def delete_tool(self, name: str) -> None:
        """Removes a registered tool."""
        with translate_errors(DEPENDENCY):
            await self._stub.DeleteTool(pb.DeleteToolRequest(name=name), timeout=self._timeout)

    async def execute_tool(self, name: str, arguments_json: str, *, run_id: str) -> tuple[r.ExecutionStatus, str]:
        """Runs a tool once, outside any run."""
        request = pb.ExecuteToolRequest(name=name, arguments_json=arguments_json, run_id=run_id, step=1)
        with translate_errors(DEPENDENCY):
            response = await self._stub.ExecuteTool(request, timeout=deadline_seconds(_EXECUTE_SECONDS))
        status = convert.enum_or(
            r.ExecutionStatus, pb.ExecutionStatus, response.status, "EXECUTION_STATUS_", r.ExecutionStatus.FAILED
        )
        return status, response.result_json

    async def list_effects(self, page: r.PageQuery, *, run_id: str, state: r.EffectState | None) -> r.Page[r.Effect]:
        """Ledger entries, newest first."""
        request = pb.ListEffectsRequest(
            page=convert.page_request(page),
            run_id=run_id,
            state=convert.enum_number(pb.EffectState, "EFFECT_STATE_", state),
        )
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListEffects(request, timeout=self._timeout)
        return r.Page([_effect(item) for item in response.effects], response.next_page_token)

    async def settle_effect(self, effect_id: str, result_json: str) -> r.Effect:
        """Settles an effect whose outcome is not known."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.SettleEffect(
                pb.SettleEffectRequest(effect_id=effect_id, result_json=result_json),
                timeout=self._timeout,
            )
        return _effect(response.effect)


def _tool(message: pb.Tool) -> r.Tool:
    binding = None
    if message.HasField("http"):
        binding = r.HttpBinding(r.HttpMethod(message.http.method), message.http.url_template)
    return r.Tool(
        name=message.name,
        description=message.description,
        parameters=convert.json_object(message.parameters_json) or {},
        kind=convert.enum_or(r.ToolKind, pb.ToolKind, message.kind, "TOOL_KIND_", r.ToolKind.BUILTIN),
        enabled=message.enabled,
        timeout_ms=message.timeout_ms,
        side_effect=convert.enum_or(r.SideEffect, pb.SideEffect, message.side_effect, "SIDE_EFFECT_", r.SideEffect.ASK),
        policy=convert.enum_or(r.ToolPolicy, pb.ToolPolicy, message.policy, "TOOL_POLICY_", r.ToolPolicy.AUTO),
        http=binding,
        reconcile_tool=message.reconcile_tool,
        schema_hash=message.schema_hash,
    )


def _tool_message(tool: r.Tool) -> pb.Tool:
    message = pb.Tool(
        name=tool.name,
        description=tool.description,
        parameters_json=convert.json_text(tool.parameters),
        timeout_ms=tool.timeout_ms,
        side_effect=convert.enum_number(pb.SideEffect, "SIDE_EFFECT_", tool.side_effect),
        policy=convert.enum_number(pb.ToolPolicy, "TOOL_POLICY_", tool.policy),
        reconcile_tool=tool.reconcile_tool,
    )
    if tool.http is not None:
        message.http.CopyFrom(pb.HttpBinding(method=tool.http.method.value, url_template=tool.http.url_template))
    return message


def _effect(message: pb.Effect) -> r.Effect:
    return r.Effect(
        id=message.id,
        run_id=message.run_id,
        step=message.step,
        call_index=message.call_index,
        tool_name=message.tool_name,
        arguments_hash=message.arguments_hash,
        state=convert.enum_or(
            r.EffectState,
            pb.EffectState,
            message.state,
            "EFFECT_STATE_",
            r.EffectState.DISPATCHED,
        ),
        status=convert.enum_or_none(r.ExecutionStatus, pb.ExecutionStatus, message.status, "EXECUTION_STATUS_"),
        created_at=convert.moment(message, "created_at"),
        completed_at=convert.moment(message, "completed_at"),
    )
