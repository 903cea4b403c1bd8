"""How each kind of registered tool is called."""

from dataclasses import dataclass
from typing import Any

from errand_tools.domain.ports import HttpCaller
from errand_tools.domain.secrets import SecretBook
from errand_tools.domain.tools import (
    CallContext,
    JsonObject,
    OutcomeUnknown,
    SideEffect,
    Tool,
    ToolDenied,
    ToolError,
)


@dataclass(frozen=True, slots=True)
class HttpTools:
    """HTTP tools."""

    http: HttpCaller
    secrets: SecretBook

    async def run(self, tenant_id: str, tool: Tool, arguments: JsonObject, context: CallContext) -> Any:
        """The answer, in which the credentials that went out are not to be read."""
        binding = tool.http
        if binding is None:
            raise ToolDenied("The tool has no endpoint.")
        used = await self.secrets.credentials(tenant_id, binding.auth, binding.url_template)
        keyed = tool.side_effect is SideEffect.IDEMPOTENT
        try:
            answer = await self.http.call(binding, arguments, context, keyed=keyed, headers=used.headers)
        except (ToolError, OutcomeUnknown) as error:
            error.message = used.scrub(error.message)
            raise
        return used.scrub(answer)


class AgentTools:
    """Agents as tools: the agent service runs them as children of the run that calls."""

    async def run(self, tenant_id: str, tool: Tool, arguments: JsonObject, context: CallContext) -> Any:
        """Raises ToolDenied."""
        raise ToolDenied("This tool is an agent, and only a run of an agent can call it.")
