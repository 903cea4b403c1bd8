"""Agents that an agent calls like tools."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from errand_common.errors import InvalidArgument

from errand_agent.domain.agents import Agent
from errand_agent.domain.ports import Call, Toolbox, ToolResult, ToolSpec
from errand_agent.domain.runs import Budget

# The longest chain of agents that call each other, the first one included.
MOST_DEEP = 4
_PREFIX = "ask_"
_PARAMETERS = json.dumps(
    {
        "type": "object",
        "properties": {"message": {"type": "string", "description": "What the agent shall do, with all it must know."}},
        "required": ["message"],
    }
)
_SPENT = json.dumps({"error": "Nothing is left of this run's budget; answer with what is known."})


class Callees(Protocol):
    """Agents that can be called. Both methods raise ErrandError."""

    async def named(self, names: Sequence[str]) -> list[Agent]:
        """Those of these agents that there are, in this order."""
        ...

    async def call(self, name: str, message: str, *, run_id: str, key: str, budget: Budget) -> ToolResult:
        """What an agent answers in a run of its own; the same run and key is the same call, never a second one."""
        ...


def tool_name(agent: str) -> str:
    """Under which the model calls the agent."""
    return _PREFIX + agent.replace("-", "_")


def circle_of(name: str, definitions: Mapping[str, Agent]) -> list[str]:
    """The chain of calls that leads from an agent back to itself; empty when none does."""
    chains = [[name]]
    seen: set[str] = set()
    while chains:
        chain = chains.pop()
        agent = definitions.get(chain[-1])
        for callee in agent.agents if agent is not None else ():
            if callee == name:
                return [*chain, callee]
            if callee not in seen:
                seen.add(callee)
                chains.append([*chain, callee])
    return []


@dataclass(frozen=True, slots=True)
class CalleeToolbox:
    """A toolbox in which some tools are agents."""

    tools: Toolbox
    callees: Callees
    agents: Sequence[str]

    async def declared(self, names: Sequence[str]) -> list[ToolSpec]:
        """The tools, then the agents."""
        tools = await self.tools.declared(names) if names else []
        return [*tools, *(_spec(agent) for agent in await self.callees.named(self.agents))]

    async def execute(
        self, call: Call, *, run_id: str, step: int, index: int, collections: Sequence[str], left: Budget | None
    ) -> ToolResult:
        """Asks the agent, or runs the tool."""
        agent = next((name for name in self.agents if tool_name(name) == call.name), None)
        if agent is None:
            return await self.tools.execute(
                call, run_id=run_id, step=step, index=index, collections=collections, left=left
            )
        if left is None:
            return ToolResult(_SPENT, failed=True)
        return await self.callees.call(
            agent, _message(call.arguments_json), run_id=run_id, key=f"{step}.{index}", budget=left
        )


def _spec(agent: Agent) -> ToolSpec:
    return ToolSpec(tool_name(agent.name), agent.description or f"Asks the agent {agent.name}.", _PARAMETERS)


def _message(arguments_json: str) -> str:
    try:
        arguments = json.loads(arguments_json)
    except ValueError:
        arguments = None
    message = arguments.get("message") if isinstance(arguments, dict) else None
    if not isinstance(message, str) or not message.strip():
        raise InvalidArgument("message: say what the agent shall do.", field="message")
    return message
