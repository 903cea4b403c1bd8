"""The tenant's tools and agents for any MCP client, by the protocol's own SDK; imported with the first request."""

import json
from collections.abc import Sequence
from typing import Any, Final

import mcp_types as types
from errand_common.db import new_id
from errand_common.errors import ErrandError, InvalidArgument, PermissionDenied
from errand_common.principal import Principal
from fastapi import Request
from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from errand_gateway.domain.permissions import Permission, permissions_of
from errand_gateway.domain.resources import PageQuery, RunCommand, StopReason
from errand_gateway.domain.tool_resources import ExecutionStatus, SideEffect, Tool, ToolFilter, ToolPolicy
from errand_gateway.transport.context import context_of
from errand_gateway.transport.presence import until_gone
from errand_gateway.transport.services import Services
from errand_gateway.transport.spending import hold_for_run

_PAGE: Final = 100
# Names of tools hold no slash, so no tool is taken for an agent.
_AGENT: Final = "agents/"
_MESSAGE_CHARACTERS: Final = 32_768
_MESSAGE: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"message": {"type": "string", "description": "What to say to the agent"}},
    "required": ["message"],
    "additionalProperties": False,
}
_MAX_BODY_BYTES: Final = 1024 * 1024 + 65_536
# A call without side effects is what a run of an agent may do; one that changes something is an editor's.
_MAY_CALL: Final = frozenset({Permission.RUNS_CREATE, Permission.TOOLS_WRITE})
_MAY_CHANGE: Final = frozenset({Permission.TOOLS_WRITE})


class McpAnswer(Response):
    """An answer that the SDK writes."""

    def __init__(self, request: Request, services: Services, caller: Principal) -> None:
        super().__init__()
        self._tools = _TenantTools(request, services, caller)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        server = Server(
            "errand",
            instructions="Tools and agents of an Errand tenant. A call that fails tells what to change.",
            on_list_tools=self._tools.list,
            on_call_tool=self._tools.call,
        )
        manager = StreamableHTTPSessionManager(
            server, json_response=True, stateless=True, max_request_body_size=_MAX_BODY_BYTES
        )
        async with manager.run():
            await manager.handle_request(scope, receive, send)


class _TenantTools:
    """The caller's tools that run without a person's approval, and its agents."""

    def __init__(self, request: Request, services: Services, caller: Principal) -> None:
        self._tools = services.tools
        self._agents = _TenantAgents(request, services, caller)
        self._granted = permissions_of(caller.roles, caller.scopes)

    async def list(
        self, context: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        """A page of what the caller may call; the agents follow on the tools' last page."""
        token = (params.cursor if params else None) or ""
        try:
            page = await self._tools.list_tools(PageQuery(_PAGE, token), ToolFilter(enabled_only=True))
            agents = [] if page.next_page_token else await self._agents.described()
        except ErrandError as error:
            raise _protocol_error(error) from None
        shown = [_described(tool) for tool in page.items if self._refusal(tool) is None]
        return types.ListToolsResult(tools=[*shown, *agents], next_cursor=page.next_page_token or None)

    async def call(
        self, context: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        """The result; whatever keeps it from running is told as its error, for the model to read."""
        try:
            if params.name.startswith(_AGENT):
                return await self._agents.ask(params.name.removeprefix(_AGENT), params.arguments or {})
            return await self._call(params)
        except ErrandError as error:
            return _failed(error.message)

    async def _call(self, params: types.CallToolRequestParams) -> types.CallToolResult:
        refusal = self._refusal(await self._tools.get_tool(params.name))
        if refusal is not None:
            return _failed(refusal)
        # A client has no run: each call is one of its own, so that nothing is replayed by chance.
        given = await self._tools.execute_tool(params.name, json.dumps(params.arguments or {}), run_id=new_id("mcp"))
        if given.status is not ExecutionStatus.SUCCEEDED:
            return _failed(_told(given.result))
        structured = given.result if isinstance(given.result, dict) else {"result": given.result}
        return types.CallToolResult(
            content=[_text(json.dumps(given.result, ensure_ascii=False))], structured_content=structured
        )

    def _refusal(self, tool: Tool) -> str | None:
        if tool.effective_policy is not ToolPolicy.AUTO:
            return "This tool needs a person's approval for each call; use it through an agent."
        needed = _MAY_CALL if tool.side_effect is SideEffect.NONE else _MAY_CHANGE
        return None if self._granted & needed else "The key may not call this tool."


class _TenantAgents:
    """The tenant's agents, each asked by a message; a run of one is held and booked like any other."""

    def __init__(self, request: Request, services: Services, caller: Principal) -> None:
        self._request = request
        self._services = services
        self._caller = caller
        granted = permissions_of(caller.roles, caller.scopes)
        self._on = {Permission.RUNS_CREATE, Permission.AGENTS_READ} <= granted

    async def described(self) -> Sequence[types.Tool]:
        """The agents that the caller may ask; of very many the first ones."""
        if not self._on:
            return []
        page = await self._services.agents.list_agents(PageQuery(_PAGE))
        return [
            types.Tool(
                name=f"{_AGENT}{agent.name}",
                description=agent.description or f"Asks the agent {agent.name}.",
                input_schema=_MESSAGE,
            )
            for agent in page.items
        ]

    async def ask(self, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
        """The agent's answer. A run that waits for a person's approval goes on without this call."""
        message = arguments.get("message")
        if not self._on:
            return _failed("The key may not ask agents.")
        if not isinstance(message, str) or not 0 < len(message.strip()) <= _MESSAGE_CHARACTERS:
            return _failed(f"Give one argument, message: a text of at most {_MESSAGE_CHARACTERS} characters.")
        context = context_of(self._request.scope)
        context.action, context.agent = Permission.RUNS_CREATE.value, name
        await hold_for_run(self._request, self._services, self._caller, name)
        run = await until_gone(self._request, self._services.agents.run(RunCommand(message, name)))
        await self._services.background.note_or_follow(run, context)
        if run.stop_reason is not StopReason.ANSWER:
            reason = run.stop_reason.value if run.stop_reason else run.state.value
            return _failed(f"The run {run.id} ended without an answer: {reason}.")
        return types.CallToolResult(
            content=[_text(run.answer)], structured_content={"answer": run.answer, "run_id": run.id}
        )


def _described(tool: Tool) -> types.Tool:
    harmless = tool.side_effect is SideEffect.NONE
    hints = types.ToolAnnotations(read_only_hint=harmless, idempotent_hint=harmless)
    return types.Tool(
        name=tool.name,
        description=tool.description,
        input_schema=tool.parameters or {"type": "object"},
        annotations=hints,
    )


def _text(text: str) -> types.TextContent:
    return types.TextContent(type="text", text=text)


def _failed(message: str) -> types.CallToolResult:
    return types.CallToolResult(content=[_text(message)], is_error=True)


def _told(value: Any) -> str:
    """The sentence in a failed call's result."""
    return str(value.get("error", "The tool failed.")) if isinstance(value, dict) else "The tool failed."


def _protocol_error(error: ErrandError) -> MCPError:
    wrong = isinstance(error, InvalidArgument | PermissionDenied)
    return MCPError(types.INVALID_PARAMS if wrong else types.INTERNAL_ERROR, error.message)
