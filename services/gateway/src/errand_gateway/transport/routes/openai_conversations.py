"""/v1/conversations, as OpenAI's clients call them: the agents' conversations."""

from typing import Annotated, Any

from errand_common.errors import NotFound, Unsupported
from errand_common.principal import Principal
from fastapi import Depends, Query
from pydantic import ConfigDict, Field

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import Conversation, Message, MessageRole, PageQuery
from errand_gateway.transport.access import Requires, openai_router
from errand_gateway.transport.fields import ResourceId
from errand_gateway.transport.openai.bodies import Metadata, Part
from errand_gateway.transport.openai.vector_bodies import Deleted, ObjectList, object_list
from errand_gateway.transport.services import Services, ServicesDep

router = openai_router(prefix="/v1/conversations", tags=["openai"])

Reader = Annotated[Principal, Depends(Requires(Permission.CONVERSATIONS_READ))]
Writer = Annotated[Principal, Depends(Requires(Permission.CONVERSATIONS_WRITE))]
_MOST_MESSAGES = 10_000


class NewConversation(Part):
    """A conversation to be made."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"metadata": {"agent": "default"}}]})

    metadata: Metadata | None = Field(default=None, description="`agent` and `title`; nothing else is kept.")
    items: list[dict[str, Any]] | None = Field(default=None, max_length=20)


@router.post("", summary="Make a conversation")
async def create_conversation(services: ServicesDep, _caller: Writer, body: NewConversation) -> dict[str, Any]:
    """A new conversation with an agent; send its id as `conversation` of responses."""
    metadata = body.metadata or {}
    unknown = sorted(set(metadata) - {"agent", "title"})
    if unknown:
        raise Unsupported(f"metadata.{unknown[0]} is not kept; only agent and title are", feature="metadata")
    if body.items:
        raise Unsupported("a conversation begins empty; send what was said as input of a response", feature="items")
    return _body(await services.agents.create_conversation(metadata.get("agent", ""), metadata.get("title", "")))


@router.get("/{conversation_id}", summary="Get a conversation")
async def get_conversation(conversation_id: ResourceId, services: ServicesDep, _caller: Reader) -> dict[str, Any]:
    """One conversation without its items."""
    return _body(await services.agents.get_conversation(conversation_id))


@router.delete("/{conversation_id}", summary="Delete a conversation")
async def delete_conversation(conversation_id: ResourceId, services: ServicesDep, _caller: Writer) -> Deleted:
    """Deletes a conversation with its messages and runs."""
    await services.agents.delete_conversation(conversation_id)
    return Deleted(id=conversation_id, object="conversation.deleted")


@router.get("/{conversation_id}/items", summary="List a conversation's items")
async def list_conversation_items(
    conversation_id: ResourceId,
    services: ServicesDep,
    _caller: Reader,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Annotated[str, Query(pattern="^(asc|desc)$")] = "desc",
    after: Annotated[str, Query(max_length=64, description="Items after this id.")] = "",
) -> ObjectList:
    """What was said, newest first."""
    messages = await _messages(services, conversation_id)
    if order == "desc":
        messages.reverse()
    ids = [message.id for message in messages]
    if after and after not in ids:
        raise NotFound("item", after)
    start = ids.index(after) + 1 if after else 0
    page = [_item(message) for message in messages[start : start + limit]]
    return object_list(page, has_more=len(messages) > start + limit)


@router.get("/{conversation_id}/items/{item_id}", summary="Get a conversation's item")
async def get_conversation_item(
    conversation_id: ResourceId, item_id: ResourceId, services: ServicesDep, _caller: Reader
) -> dict[str, Any]:
    """One thing that was said."""
    for message in await _messages(services, conversation_id):
        if message.id == item_id:
            return _item(message)
    raise NotFound("item", item_id)


async def _messages(services: Services, conversation_id: str) -> list[Message]:
    found: list[Message] = []
    page = PageQuery(size=200)
    while len(found) < _MOST_MESSAGES:
        listed = await services.agents.list_messages(conversation_id, page)
        found += listed.items
        if not listed.next_page_token:
            break
        page = PageQuery(size=200, token=listed.next_page_token)
    return found


def _body(conversation: Conversation) -> dict[str, Any]:
    return {
        "id": conversation.id,
        "object": "conversation",
        "created_at": int(conversation.created_at.timestamp()) if conversation.created_at else 0,
        "metadata": {"agent": conversation.agent, "title": conversation.title},
    }


def _item(message: Message) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "input_text", "text": message.text}
    if message.role is MessageRole.ASSISTANT:
        part = {"type": "output_text", "text": message.text, "annotations": [], "logprobs": []}
    return {
        "id": message.id,
        "type": "message",
        "role": message.role.value,
        "status": "completed",
        "content": [part],
    }
