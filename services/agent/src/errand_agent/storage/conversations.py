"""Every query on conversations and messages."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from errand_common.db import decode_page_token, encode_page_token, new_id, utc_now
from errand_common.errors import Conflict
from sqlalchemy.ext.asyncio import AsyncSession

from errand_agent.domain.conversations import Conversation, Message, Role
from errand_agent.storage.models import ConversationRow, MessageRow


def to_conversation(row: ConversationRow) -> Conversation:
    """The domain's conversation."""
    return Conversation(
        row.id,
        row.tenant_id,
        row.principal_id,
        row.title,
        row.agent,
        row.message_count,
        row.created_at,
        row.updated_at,
        row.archived,
    )


def claim(row: ConversationRow, run_id: str) -> None:
    """Gives the conversation to a run; raises Conflict while another one answers."""
    if row.active_run_id is not None:
        raise Conflict(
            "conversation_id: another message of this conversation is being answered; wait for it or cancel it.",
            resource="conversation",
            id=row.id,
        )
    row.active_run_id = run_id


class ConversationRepository:
    """Conversations of one transaction's tenant."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, tenant_id: str, principal_id: str, *, title: str, agent: str) -> ConversationRow:
        """A new conversation."""
        now = utc_now()
        row = ConversationRow(
            id=new_id("conv"),
            tenant_id=tenant_id,
            principal_id=principal_id,
            title=title,
            agent=agent,
            message_count=0,
            created_at=now,
            updated_at=now,
        )
        self._session.add(row)
        await self._session.flush()
        return row

    async def row(self, tenant_id: str, conversation_id: str, owner: str | None) -> ConversationRow | None:
        """The conversation's row, if it is of this owner (None: of anyone)."""
        found = await self._session.get(ConversationRow, conversation_id, with_for_update=True)
        if found is None or found.tenant_id != tenant_id:
            return None
        return found if owner is None or found.principal_id == owner else None

    async def page(
        self, tenant_id: str, owner: str, size: int, token: str, *, text: str = "", include_archived: bool = False
    ) -> tuple[list[ConversationRow], str]:
        """An owner's conversations, newest first, and the next page's token.

        With a text only those that have it in their title or messages, whatever the case.
        """
        query = (
            sa.select(ConversationRow)
            .where(ConversationRow.tenant_id == tenant_id, ConversationRow.principal_id == owner)
            .order_by(ConversationRow.id.desc())
            .limit(size + 1)
        )
        if not include_archived:
            query = query.where(ConversationRow.archived.is_(False))
        if text:
            said = sa.exists().where(
                MessageRow.conversation_id == ConversationRow.id, MessageRow.text.icontains(text, autoescape=True)
            )
            query = query.where(ConversationRow.title.icontains(text, autoescape=True) | said)
        if (before := decode_page_token(token, length=1)) is not None:
            query = query.where(ConversationRow.id < str(before[0]))
        rows = list(await self._session.scalars(query))
        return rows[:size], encode_page_token([rows[size - 1].id]) if len(rows) > size else ""

    def release(self, row: ConversationRow, run_id: str) -> None:
        """Frees the conversation for the next message."""
        if row.active_run_id == run_id:
            row.active_run_id = None

    async def say(self, row: ConversationRow, role: Role, text: str, run_id: str) -> None:
        """Adds a message."""
        now = utc_now()
        self._session.add(
            MessageRow(
                id=new_id("msg"),
                tenant_id=row.tenant_id,
                conversation_id=row.id,
                role=role.value,
                text=text,
                run_id=run_id,
                created_at=now,
            )
        )
        row.message_count, row.updated_at = row.message_count + 1, now
        await self._session.flush()

    async def messages(self, conversation_id: str, size: int, token: str) -> tuple[list[Message], str]:
        """Messages, oldest first, and the next page's token."""
        query = (
            sa.select(MessageRow)
            .where(MessageRow.conversation_id == conversation_id)
            .order_by(MessageRow.id)
            .limit(size + 1)
        )
        if (after := decode_page_token(token, length=1)) is not None:
            query = query.where(MessageRow.id > str(after[0]))
        rows = list(await self._session.scalars(query))
        return _messages(rows[:size]), encode_page_token([rows[size - 1].id]) if len(rows) > size else ""

    async def latest(self, conversation_id: str, count: int, *, except_run: str, after: str = "") -> list[Message]:
        """The newest messages of other runs after a message, oldest first."""
        query = (
            sa.select(MessageRow)
            .where(MessageRow.conversation_id == conversation_id, MessageRow.run_id != except_run)
            .where(MessageRow.id > after)
            .order_by(MessageRow.id.desc())
            .limit(count)
        )
        return _messages(list(reversed(list(await self._session.scalars(query)))))

    async def title_of(self, conversation_id: str) -> str | None:
        """A conversation's title, if it is still there."""
        query = sa.select(ConversationRow.title).where(ConversationRow.id == conversation_id)
        title: str | None = await self._session.scalar(query)
        return title

    async def before_run(self, conversation_id: str, run_id: str) -> list[Message]:
        """What was said before a run's own message, oldest first."""
        own = sa.select(sa.func.min(MessageRow.id)).where(MessageRow.run_id == run_id).scalar_subquery()
        query = sa.select(MessageRow).where(MessageRow.conversation_id == conversation_id, MessageRow.id < own)
        return _messages(list(await self._session.scalars(query.order_by(MessageRow.id))))

    async def delete(self, row: ConversationRow) -> None:
        """Deletes the conversation with its messages and runs."""
        await self._session.execute(sa.delete(ConversationRow).where(ConversationRow.id == row.id))


def _messages(rows: Sequence[MessageRow]) -> list[Message]:
    return [Message(row.id, Role(row.role), row.text, row.run_id, row.created_at) for row in rows]
