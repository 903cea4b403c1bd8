"""Reading and deleting conversations."""

from __future__ import annotations

from errand_common.db import Database
from errand_common.errors import Conflict, InvalidArgument, NotFound
from errand_common.principal import current_principal

from errand_agent.domain.conversations import Conversation, Message
from errand_agent.storage.conversations import ConversationRepository, to_conversation
from errand_agent.use_cases.access import page_size, visible_owner
from errand_agent.use_cases.agents import AgentUseCases


class ConversationUseCases:
    """Conversations of the caller."""

    def __init__(self, database: Database, agents: AgentUseCases) -> None:
        self._database, self._agents = database, agents

    async def create(self, agent: str, title: str) -> Conversation:
        """Raises NotFound for an unknown agent."""
        named = await self._agents.get(agent)
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id) as session:
            row = await ConversationRepository(session).add(
                principal.tenant_id, principal.id, title=title, agent=named.name
            )
            return to_conversation(row)

    async def get(self, conversation_id: str) -> Conversation:
        """Raises NotFound."""
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id, read_only=True) as session:
            row = await ConversationRepository(session).row(
                principal.tenant_id, conversation_id, visible_owner(principal)
            )
            if row is None:
                raise NotFound("conversation", conversation_id)
            return to_conversation(row)

    async def page(self, size: int, token: str, *, text: str, include_archived: bool) -> tuple[list[Conversation], str]:
        """The caller's own, newest first; with a text those that have it in title or messages."""
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id, read_only=True) as session:
            rows, more = await ConversationRepository(session).page(
                principal.tenant_id,
                principal.id,
                page_size(size),
                token,
                text=text.strip(),
                include_archived=include_archived,
            )
            return [to_conversation(row) for row in rows], more

    async def messages(self, conversation_id: str, size: int, token: str) -> tuple[list[Message], str]:
        """Oldest first; raises NotFound."""
        await self.get(conversation_id)
        async with self._database.transaction(current_principal().tenant_id, read_only=True) as session:
            return await ConversationRepository(session).messages(conversation_id, page_size(size), token)

    async def update(self, conversation_id: str, *, title: str | None, archived: bool | None) -> Conversation:
        """Changes what is given; raises NotFound, and InvalidArgument for a blank title."""
        if title is not None and not title.strip():
            raise InvalidArgument("title: give 1 to 200 characters, not only blanks.", field="title")
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id) as session:
            row = await ConversationRepository(session).row(
                principal.tenant_id, conversation_id, visible_owner(principal)
            )
            if row is None:
                raise NotFound("conversation", conversation_id)
            row.title = row.title if title is None else title.strip()
            row.archived = row.archived if archived is None else archived
            return to_conversation(row)

    async def delete(self, conversation_id: str) -> None:
        """With its messages and runs; raises NotFound, or Conflict while a run answers."""
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id) as session:
            conversations = ConversationRepository(session)
            row = await conversations.row(principal.tenant_id, conversation_id, visible_owner(principal))
            if row is None:
                raise NotFound("conversation", conversation_id)
            if row.active_run_id is not None:
                raise Conflict(
                    "A run answers in this conversation; cancel it first.", resource="run", id=row.active_run_id
                )
            await conversations.delete(row)
