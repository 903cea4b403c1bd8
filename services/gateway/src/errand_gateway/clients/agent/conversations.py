"""Conversations."""

from errand.agent.v1 import agent_pb2 as pb
from errand_common.rpc.client import translate_errors

from errand_gateway.clients import conversion as convert
from errand_gateway.clients.agent.client import DEPENDENCY, AgentClient
from errand_gateway.domain import resources as r


class ConversationClient(AgentClient):
    """Keeps conversations."""

    async def create_conversation(self, agent: str, title: str) -> r.Conversation:
        """Makes a conversation."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.CreateConversation(
                pb.CreateConversationRequest(agent=agent, title=title), timeout=self._timeout
            )
        return _conversation(response.conversation)

    async def get_conversation(self, conversation_id: str) -> r.Conversation:
        """One conversation."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.GetConversation(
                pb.GetConversationRequest(id=conversation_id), timeout=self._timeout
            )
        return _conversation(response.conversation)

    async def list_conversations(
        self, page: r.PageQuery, *, query: str = "", include_archived: bool = False
    ) -> r.Page[r.Conversation]:
        """Conversations, newest first; with a query those that have it in title or messages."""
        request = pb.ListConversationsRequest(
            page=convert.page_request(page), query=query, include_archived=include_archived
        )
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListConversations(request, timeout=self._timeout)
        items = [_conversation(item) for item in response.conversations]
        return r.Page(items, response.next_page_token)

    async def update_conversation(
        self, conversation_id: str, *, title: str | None, archived: bool | None
    ) -> r.Conversation:
        """Changes what is given."""
        request = pb.UpdateConversationRequest(id=conversation_id, title=title, archived=archived)
        with translate_errors(DEPENDENCY):
            response = await self._stub.UpdateConversation(request, timeout=self._timeout)
        return _conversation(response.conversation)

    async def delete_conversation(self, conversation_id: str) -> None:
        """Deletes a conversation with its messages and runs."""
        with translate_errors(DEPENDENCY):
            await self._stub.DeleteConversation(pb.DeleteConversationRequest(id=conversation_id), timeout=self._timeout)

    async def list_messages(self, conversation_id: str, page: r.PageQuery) -> r.Page[r.Message]:
        """Messages, oldest first."""
        request = pb.ListMessagesRequest(conversation_id=conversation_id, page=convert.page_request(page))
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListMessages(request, timeout=self._timeout)
        return r.Page([_message(item) for item in response.messages], response.next_page_token)


def _conversation(message: pb.Conversation) -> r.Conversation:
    return r.Conversation(
        id=message.id,
        title=message.title,
        agent=message.agent,
        message_count=message.message_count,
        created_at=convert.moment(message, "created_at"),
        updated_at=convert.moment(message, "updated_at"),
        archived=message.archived,
    )


def _message(message: pb.ConversationMessage) -> r.Message:
    return r.Message(
        id=message.id,
        role=convert.enum_or(r.MessageRole, pb.MessageRole, message.role, "MESSAGE_ROLE_", r.MessageRole.USER),
        text=message.text,
        run_id=message.run_id,
        created_at=convert.moment(message, "created_at"),
    )
