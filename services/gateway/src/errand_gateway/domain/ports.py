"""What the gateway needs of the services behind it.

Every method acts as the current principal, raises the matching ErrandError of the service, and
Unavailable with the service's name when it is away.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from errand_gateway.domain import tool_resources as t
from errand_gateway.domain.resources import (
    Agent,
    Approval,
    ApprovalState,
    Conversation,
    Feedback,
    ForkCommand,
    Message,
    Page,
    PageQuery,
    Run,
    RunCommand,
    RunEvent,
    RunFilter,
)


class AgentBackend(Protocol):
    """The agent service."""

    async def run(self, command: RunCommand) -> Run:
        """Runs an agent and waits for the end."""
        ...

    def stream(self, command: RunCommand) -> AsyncIterator[RunEvent]:
        """Runs an agent; closing the iterator cancels the run."""
        ...

    async def start(self, command: RunCommand) -> Run:
        """Starts a run in the background."""
        ...

    async def get_run(self, run_id: str) -> Run:
        """One run with its steps."""
        ...

    async def list_runs(self, page: PageQuery, wanted: RunFilter) -> Page[Run]:
        """Runs, newest first."""
        ...

    async def fork_run(self, run_id: str, command: ForkCommand) -> Run:
        """Begins a run that goes on from a model step of an ended one."""
        ...

    async def redrive_run(self, run_id: str) -> Run:
        """Begins a run in place of one that failed for reasons that may be gone."""
        ...

    async def cancel_run(self, run_id: str) -> Run:
        """Cancels a run."""
        ...

    def watch(self, run_id: str, after_sequence: int) -> AsyncIterator[RunEvent]:
        """Events after a sequence number, until the run ends."""
        ...

    async def list_approvals(self, page: PageQuery, *, run_id: str, state: ApprovalState | None) -> Page[Approval]:
        """Calls that need a person's approval, newest first."""
        ...

    async def approve(self, approval_id: str, *, arguments_json: str, reason: str) -> Approval:
        """Lets a call run, with other arguments if given."""
        ...

    async def refuse(self, approval_id: str, *, reason: str) -> Approval:
        """Refuses a call."""
        ...

    async def create_conversation(self, agent: str, title: str) -> Conversation:
        """Makes a conversation."""
        ...

    async def get_conversation(self, conversation_id: str) -> Conversation:
        """One conversation."""
        ...

    async def list_conversations(
        self, page: PageQuery, *, query: str = "", include_archived: bool = False
    ) -> Page[Conversation]:
        """Conversations, newest first; with a query those that have it in title or messages."""
        ...

    async def update_conversation(
        self, conversation_id: str, *, title: str | None, archived: bool | None
    ) -> Conversation:
        """Changes what is given."""
        ...

    async def delete_conversation(self, conversation_id: str) -> None:
        """Deletes a conversation with its messages and runs."""
        ...

    async def list_messages(self, conversation_id: str, page: PageQuery) -> Page[Message]:
        """Messages, oldest first."""
        ...

    async def create_agent(self, agent: Agent) -> Agent:
        """Defines an agent."""
        ...

    async def get_agent(self, name: str) -> Agent:
        """One agent."""
        ...

    async def list_agents(self, page: PageQuery) -> Page[Agent]:
        """Agents, the default one first."""
        ...

    async def update_agent(self, agent: Agent, *, expected_version: int) -> Agent:
        """Replaces an agent; 0 replaces any version."""
        ...

    async def delete_agent(self, name: str) -> None:
        """Removes an agent."""
        ...

    async def submit_feedback(self, feedback: Feedback) -> None:
        """Stores feedback on a run."""
        ...


class ToolBackend(Protocol):
    """The tools service."""

    async def register(self, tool: t.Tool, module: bytes = b"") -> t.Tool:
        """Registers a tool, a WebAssembly one with its module."""
        ...

    async def update_tool(self, tool: t.Tool, module: bytes = b"", *, expected_version: int) -> t.Tool:
        """Changes a registered tool at the version seen, 0 for any."""
        ...

    async def list_tool_versions(self, name: str) -> Sequence[t.Tool]:
        """The tool as it was, the newest first."""
        ...

    async def report_tools(self, *, name: str, days: int) -> Sequence[t.ToolQuality]:
        """How calls ended, of one tool or all."""
        ...

    async def get_tool(self, name: str) -> t.Tool:
        """One tool."""
        ...

    async def list_tools(self, page: PageQuery, only: t.ToolFilter) -> Page[t.Tool]:
        """Tools, built-in ones first."""
        ...

    async def set_enabled(self, name: str, *, enabled: bool) -> t.Tool:
        """Turns a tool on or off for the tenant."""
        ...

    async def delete_tool(self, name: str) -> None:
        """Removes a registered tool."""
        ...

    async def approve_tool(self, name: str, schema_hash: str) -> t.Tool:
        """Takes over what a held tool's server offers."""
        ...

    async def lint_tool(self, name: str) -> t.ToolRating:
        """How well a small model can use the tool."""
        ...

    async def execute_tool(self, name: str, arguments_json: str, *, run_id: str) -> t.ToolResult:
        """Runs a tool once, outside any run."""
        ...

    async def import_openapi(self, order: t.ToolImport) -> t.Imported:
        """Registers each operation of a document as a tool."""
        ...

    async def list_effects(self, page: PageQuery, *, run_id: str, state: t.EffectState | None) -> Page[t.Effect]:
        """Ledger entries, newest first."""
        ...

    async def settle_effect(self, effect_id: str, result_json: str) -> t.Effect:
        """Settles an effect whose outcome is not known."""
        ...

    async def put_secret(self, name: str, value: str, hosts: Sequence[str]) -> t.Secret:
        """Stores or replaces a secret."""
        ...

    async def list_secrets(self) -> Sequence[t.Secret]:
        """The secrets by name, without values."""
        ...

    async def delete_secret(self, name: str) -> None:
        """Removes a secret."""
        ...

    async def register_mcp_server(self, server: t.McpServer) -> t.RegisteredMcpServer:
        """Connects to an MCP server and registers its tools."""
        ...

    async def list_mcp_servers(self) -> Sequence[t.McpServer]:
        """The servers by name."""
        ...

    async def sync_mcp_server(self, name: str) -> t.SyncedMcpServer:
        """Reads the server's tools again."""
        ...

    async def delete_mcp_server(self, name: str) -> None:
        """Removes a server and its tools."""
        ...
