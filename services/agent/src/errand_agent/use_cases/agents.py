"""Defining agents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from errand_common.db import Database
from errand_common.errors import AlreadyExists, Conflict, InvalidArgument, NotFound
from errand_common.principal import current_principal
from sqlalchemy.ext.asyncio import AsyncSession

from errand_agent.domain.agents import DEFAULT_AGENT, Agent, check_name, default_agent
from errand_agent.domain.callees import circle_of, tool_name
from errand_agent.domain.ports import Models, Retriever, Toolbox
from errand_agent.storage.agents import AgentRepository
from errand_agent.use_cases.prompts import check_reference, follow_none

_MOST_NAMED = 20


async def in_force(session: AsyncSession, name: str) -> Agent:
    """The tenant's agent in force; an empty name is the default one. Raises NotFound."""
    wanted = name or DEFAULT_AGENT
    found, _ = await AgentRepository(session).latest(current_principal().tenant_id, wanted)
    if found is not None:
        return found
    if wanted == DEFAULT_AGENT:
        return default_agent()
    raise NotFound("agent", wanted)


class AgentUseCases:
    """Agents of the caller's tenant."""

    def __init__(
        self,
        database: Database,
        toolbox: Toolbox,
        retriever: Retriever,
        models: Models,
        follow: Callable[[str, str], Awaitable[None]] = follow_none,
    ) -> None:
        """`follow` brings a tenant's prompt here from where it is written, if it is written elsewhere."""
        self._follow = follow
        self._database, self._toolbox, self._retriever, self._models = database, toolbox, retriever, models

    async def get(self, name: str) -> Agent:
        """The agent in force; an empty name is the default one. Raises NotFound."""
        async with self._database.transaction(current_principal().tenant_id, read_only=True) as session:
            return await in_force(session, name)

    async def all(self) -> list[Agent]:
        """The tenant's agents, the default one first."""
        tenant_id = current_principal().tenant_id
        async with self._database.transaction(tenant_id, read_only=True) as session:
            stored = await AgentRepository(session).all(tenant_id)
        defaults = [agent for agent in stored if agent.is_default] or [default_agent()]
        return [*defaults, *(agent for agent in stored if not agent.is_default)]

    async def create(self, agent: Agent) -> Agent:
        """Raises AlreadyExists, InvalidArgument, and Unavailable when what it names cannot be looked up."""
        await self._check(agent)
        tenant_id = current_principal().tenant_id
        async with self._database.transaction(tenant_id) as session:
            agents = AgentRepository(session)
            found, version = await agents.latest(tenant_id, agent.name)
            if found is not None or agent.is_default:
                raise AlreadyExists("agent", agent.name)
            return await agents.put(tenant_id, agent, version + 1)

    async def update(self, agent: Agent, expected_version: int) -> Agent:
        """Replaces the definition; raises as `create`, NotFound, and Conflict when another version is in force."""
        await self._check(agent)
        tenant_id = current_principal().tenant_id
        async with self._database.transaction(tenant_id) as session:
            agents = AgentRepository(session)
            found, version = await agents.latest(tenant_id, agent.name)
            if found is None and not agent.is_default:
                raise NotFound("agent", agent.name)
            in_force = found.version if found else default_agent().version
            if expected_version and expected_version != in_force:
                raise Conflict(
                    f"version: {in_force} is in force, not {expected_version}; read the agent again.",
                    resource="agent",
                    id=agent.name,
                )
            return await agents.put(tenant_id, agent, max(version, in_force) + 1)

    async def delete(self, name: str) -> None:
        """Raises NotFound, or Conflict for the default agent."""
        if name == DEFAULT_AGENT:
            raise Conflict("The default agent cannot be removed; update it instead.", resource="agent", id=name)
        tenant_id = current_principal().tenant_id
        async with self._database.transaction(tenant_id) as session:
            agents = AgentRepository(session)
            found, version = await agents.latest(tenant_id, name)
            if found is None:
                raise NotFound("agent", name)
            await agents.put(tenant_id, replace(found), version + 1, deleted=True)

    async def _check(self, agent: Agent) -> None:
        """What it names must exist."""
        check_name(agent.name)
        declared = {tool.name for tool in await self._toolbox.declared(agent.tools)} if agent.tools else set()
        if missing := sorted(set(agent.tools) - declared):
            raise InvalidArgument(
                f"tools: {missing[0]!r} does not exist or is turned off; register it first.", field="tools"
            )
        try:
            await self._retriever.check_collections(agent.collections)
        except NotFound as error:
            raise InvalidArgument(f"collections: {error.message}", field="collections") from error
        await self.check_models(agent)
        await self._check_agents(agent)
        await self._check_prompt(agent)

    async def check_models(self, agent: Agent) -> None:
        """Raises InvalidArgument for one that is not served; an empty name is the default one, which always is."""
        named = [("model", agent.model), *(("fallback_models", name) for name in agent.fallback_models)]
        served = await self._models.served() if any(name for _, name in named) else frozenset()
        for field, name in named:
            if name and name not in served:
                raise InvalidArgument(
                    f"{field}: {name!r} is not served; there are {', '.join(sorted(served)[:_MOST_NAMED])}.",
                    field=field,
                )

    async def _check_prompt(self, agent: Agent) -> None:
        tenant_id = current_principal().tenant_id
        if not agent.prompt:
            return
        await self._follow(tenant_id, agent.prompt)
        async with self._database.transaction(tenant_id, read_only=True) as session:
            try:
                await check_reference(session, tenant_id, agent.prompt)
            except NotFound as error:
                raise InvalidArgument(f"prompt: {error.message}", field="prompt") from error

    async def _check_agents(self, agent: Agent) -> None:
        """Those it calls exist, by names of their own, and no chain of calls leads back."""
        names = [*agent.tools, *(tool_name(name) for name in agent.agents)]
        if doubled := next((name for name in names if names.count(name) > 1), None):
            raise InvalidArgument(f"agents: {doubled!r} is called twice; rename an agent or a tool.", field="agents")
        definitions = {found.name: found for found in await self.all()} | {agent.name: agent}
        if missing := next((name for name in agent.agents if name not in definitions), None):
            raise InvalidArgument(f"agents: {missing!r} does not exist; define it first.", field="agents")
        if circle := circle_of(agent.name, definitions):
            raise InvalidArgument(f"agents: they call each other in a circle: {' -> '.join(circle)}.", field="agents")
