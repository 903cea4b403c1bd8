"""Every query on facts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from errand_common.db import decode_page_token, encode_page_token, new_id
from sqlalchemy.ext.asyncio import AsyncSession

from errand_agent.domain.memory import Fact
from errand_agent.storage.models import FactRow


def to_fact(row: FactRow) -> Fact:
    """The domain's fact."""
    return Fact(
        text=row.text,
        key=row.key,
        agent=row.agent,
        conversation_id=row.conversation_id,
        message_id=row.message_id,
        expires_at=row.expires_at,
        id=row.id,
        count=row.count,
        created_at=row.created_at,
        updated_at=row.updated_at,
        embedding=tuple(row.embedding),
    )


class FactRepository:
    """Facts of one transaction's tenant."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def of(self, tenant_id: str, principal_id: str, at: datetime) -> list[Fact]:
        """What a person's agents know at a moment."""
        query = sa.select(FactRow).where(FactRow.tenant_id == tenant_id, FactRow.principal_id == principal_id)
        query = query.where(FactRow.expires_at.is_(None) | (FactRow.expires_at > at))
        return [to_fact(row) for row in await self._session.scalars(query.order_by(FactRow.id))]

    async def forget_expired(self, tenant_id: str, principal_id: str, at: datetime) -> int:
        """Deletes what is over; how many."""
        gone = sa.delete(FactRow).where(FactRow.tenant_id == tenant_id, FactRow.principal_id == principal_id)
        return await self._deleted(gone.where(FactRow.expires_at <= at))

    async def _deleted(self, statement: sa.Delete) -> int:
        result: Any = await self._session.execute(statement)
        return int(result.rowcount)

    async def add(self, tenant_id: str, principal_id: str, fact: Fact, at: datetime) -> Fact:
        """Stores a new fact."""
        row = FactRow(
            id=new_id("fact"),
            tenant_id=tenant_id,
            principal_id=principal_id,
            key=fact.key,
            agent=fact.agent,
            conversation_id=fact.conversation_id,
            message_id=fact.message_id,
            text=fact.text,
            hash=fact.hash,
            embedding=list(fact.embedding),
            count=1,
            created_at=at,
            updated_at=at,
            expires_at=fact.expires_at,
        )
        self._session.add(row)
        await self._session.flush()
        return to_fact(row)

    async def told_again(self, fact_id: str, expires_at: datetime | None, at: datetime) -> Fact:
        """Counts a fact that is known; it then holds for the longer of both times."""
        row = await self._session.get_one(FactRow, fact_id, with_for_update=True)
        row.count, row.updated_at = row.count + 1, at
        if row.expires_at is not None:
            row.expires_at = None if expires_at is None else max(row.expires_at, expires_at)
        await self._session.flush()
        return to_fact(row)

    async def page(
        self, tenant_id: str, principal_id: str, size: int, token: str, at: datetime
    ) -> tuple[Sequence[Fact], str]:
        """A person's facts, newest first, and the next page's token."""
        query = sa.select(FactRow).where(FactRow.tenant_id == tenant_id, FactRow.principal_id == principal_id)
        query = query.where(FactRow.expires_at.is_(None) | (FactRow.expires_at > at))
        if (before := decode_page_token(token, length=1)) is not None:
            query = query.where(FactRow.id < str(before[0]))
        rows = list(await self._session.scalars(query.order_by(FactRow.id.desc()).limit(size + 1)))
        more = encode_page_token([rows[size - 1].id]) if len(rows) > size else ""
        return [to_fact(row) for row in rows[:size]], more

    async def delete(self, tenant_id: str, principal_id: str, fact_id: str) -> bool:
        """Whether there was such a fact."""
        gone = sa.delete(FactRow).where(FactRow.tenant_id == tenant_id, FactRow.principal_id == principal_id)
        return await self._deleted(gone.where(FactRow.id == fact_id)) > 0

    async def erase(self, tenant_id: str, principal_id: str) -> int:
        """Deletes all of a person's facts; how many."""
        return await self._deleted(
            sa.delete(FactRow).where(FactRow.tenant_id == tenant_id, FactRow.principal_id == principal_id)
        )
