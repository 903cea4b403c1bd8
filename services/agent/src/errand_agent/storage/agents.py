"""Every query on agents."""

from __future__ import annotations

from dataclasses import asdict, replace

import sqlalchemy as sa
from errand_common.db import utc_now
from errand_common.errors import Conflict
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from errand_agent.domain.agents import Agent
from errand_agent.storage.models import AgentRow


def _agent(row: AgentRow) -> Agent:
    return Agent.from_json({**row.definition, "version": row.version})


class AgentRepository:
    """Agents of one transaction's tenant. Versions are only added."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def latest(self, tenant_id: str, name: str) -> tuple[Agent | None, int]:
        """The agent in force, if there is one, and the newest version's number."""
        query = (
            sa.select(AgentRow)
            .where(AgentRow.tenant_id == tenant_id, AgentRow.name == name)
            .order_by(AgentRow.version.desc())
            .limit(1)
        )
        row = await self._session.scalar(query)
        if row is None:
            return None, 0
        return None if row.deleted else _agent(row), row.version

    async def put(self, tenant_id: str, agent: Agent, version: int, *, deleted: bool = False) -> Agent:
        """Stores a version; raises Conflict when another writer stored it first."""
        stored = replace(agent, version=version)
        self._session.add(
            AgentRow(
                tenant_id=tenant_id,
                name=agent.name,
                version=version,
                definition=asdict(stored),
                deleted=deleted,
                created_at=utc_now(),
            )
        )
        try:
            await self._session.flush()
        except IntegrityError as error:
            raise Conflict(
                "The agent was changed at the same time; read it again.", resource="agent", id=agent.name
            ) from error
        return stored

    async def all(self, tenant_id: str) -> list[Agent]:
        """The agents in force, by name."""
        newest = (
            sa.select(AgentRow.name, sa.func.max(AgentRow.version).label("version"))
            .where(AgentRow.tenant_id == tenant_id)
            .group_by(AgentRow.name)
            .subquery()
        )
        query = (
            sa.select(AgentRow)
            .join(newest, sa.and_(AgentRow.name == newest.c.name, AgentRow.version == newest.c.version))
            .where(AgentRow.tenant_id == tenant_id, AgentRow.deleted.is_(False))
            .order_by(AgentRow.name)
        )
        return [_agent(row) for row in await self._session.scalars(query)]
