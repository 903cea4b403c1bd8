"""Between protobuf messages of MCP servers and the domain's types."""

from errand.tools.v1 import tools_pb2

from errand_tools.domain.mcp import McpServer, Synced
from errand_tools.domain.tools import DEFAULT_TIMEOUT_MS, SideEffect, ToolPolicy
from errand_tools.transport import conversion


def server_from_proto(message: tools_pb2.McpServer) -> McpServer:
    """The server a request describes; its tools ask a person unless the request says else."""
    return McpServer(
        name=message.name,
        url=message.url,
        stdio=message.stdio,
        auth=conversion.auth_from_proto(message.auth) if message.HasField("auth") else None,
        side_effect=conversion.side_effect_of(message.side_effect, SideEffect.ASK),
        policy=conversion.policy_of(message.policy, ToolPolicy.ASK),
        timeout_ms=message.timeout_ms or DEFAULT_TIMEOUT_MS,
    )


def server_to_proto(server: McpServer) -> tools_pb2.McpServer:
    """The server as a message."""
    return tools_pb2.McpServer(
        name=server.name,
        url=server.url,
        stdio=server.stdio,
        auth=conversion.auth_to_proto(server.auth) if server.auth else None,
        side_effect=conversion.side_effect_to_proto(server.side_effect),
        policy=conversion.policy_to_proto(server.policy),
        timeout_ms=server.timeout_ms,
    )


def synced_to_proto(synced: Synced, roles: frozenset[str]) -> tools_pb2.SyncMcpServerResponse:
    """What is new at a server."""
    return tools_pb2.SyncMcpServerResponse(
        held=[conversion.tool_to_proto(tool, roles) for tool in synced.held],
        unchanged=synced.unchanged,
        removed=synced.removed,
        skipped=conversion.skipped_to_proto(synced.skipped),
    )
