"""Definitions of agents."""

from errand.agent.v1 import agent_pb2 as pb
from errand_common.rpc.client import translate_errors

from errand_gateway.clients import conversion as convert
from errand_gateway.clients.agent.client import DEPENDENCY, AgentClient
from errand_gateway.domain import resources as r


class DefinitionClient(AgentClient):
    """Keeps agents."""

    async def create_agent(self, agent: r.Agent) -> r.Agent:
        """Defines an agent."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.CreateAgent(
                pb.CreateAgentRequest(agent=_agent_message(agent)), timeout=self._timeout
            )
        return _agent(response.agent)

    async def get_agent(self, name: str) -> r.Agent:
        """One agent."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.GetAgent(pb.GetAgentRequest(name=name), timeout=self._timeout)
        return _agent(response.agent)

    async def list_agents(self, page: r.PageQuery) -> r.Page[r.Agent]:
        """Agents, the default one first."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListAgents(
                pb.ListAgentsRequest(page=convert.page_request(page)), timeout=self._timeout
            )
        return r.Page([_agent(item) for item in response.agents], response.next_page_token)

    async def update_agent(self, agent: r.Agent, *, expected_version: int) -> r.Agent:
        """Replaces an agent; 0 replaces any version."""
        request = pb.UpdateAgentRequest(agent=_agent_message(agent), expected_version=expected_version)
        with translate_errors(DEPENDENCY):
            response = await self._stub.UpdateAgent(request, timeout=self._timeout)
        return _agent(response.agent)

    async def delete_agent(self, name: str) -> None:
        """Removes an agent."""
        with translate_errors(DEPENDENCY):
            await self._stub.DeleteAgent(pb.DeleteAgentRequest(name=name), timeout=self._timeout)


def _agent(message: pb.Agent) -> r.Agent:
    return r.Agent(
        name=message.name,
        description=message.description,
        instructions=message.instructions,
        model=message.model,
        tools=list(message.tools),
        collections=list(message.collections),
        max_steps=message.max_steps,
        max_tokens=message.max_tokens,
        max_seconds=message.max_seconds,
        max_errors=message.max_errors,
        version=message.version,
        is_default=message.is_default,
        max_cost_micros=message.max_cost_micros,
        max_shown_tools=message.max_shown_tools,
        agents=list(message.agents),
        fallback_models=list(message.fallback_models),
        temperature=round(message.temperature, 6),
        prompt=message.prompt,
    )


def _agent_message(agent: r.Agent) -> pb.Agent:
    return pb.Agent(
        name=agent.name,
        description=agent.description,
        instructions=agent.instructions,
        model=agent.model,
        tools=agent.tools,
        collections=agent.collections,
        max_steps=agent.max_steps,
        max_tokens=agent.max_tokens,
        max_seconds=agent.max_seconds,
        max_errors=agent.max_errors,
        max_cost_micros=agent.max_cost_micros,
        max_shown_tools=agent.max_shown_tools,
        agents=agent.agents,
        fallback_models=agent.fallback_models,
        temperature=agent.temperature,
        prompt=agent.prompt,
    )
