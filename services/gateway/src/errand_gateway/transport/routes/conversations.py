"""Conversations and their messages."""

from typing import Annotated

from errand_common.principal import Principal
from fastapi import Depends, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict, Field

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import Conversation, Message, Page
from errand_gateway.transport.access import BODY_RESPONSES, NOT_FOUND, Requires, guarded_router
from errand_gateway.transport.fields import ID_PATTERN, Body, PageDep, ResourceId, SpokenText, Text
from errand_gateway.transport.lines import described, streamed
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/api/v1/conversations", tags=["conversations"])

Reader = Annotated[Principal, Depends(Requires(Permission.CONVERSATIONS_READ))]
Exporter = Annotated[Principal, Depends(Requires(Permission.CONVERSATIONS_READ, seconds=3600.0))]
Writer = Annotated[Principal, Depends(Requires(Permission.CONVERSATIONS_WRITE))]


class NewConversation(Body):
    """A conversation to be made."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"agent": "default", "title": "Travel plans"}]})

    agent: Annotated[str, Field(max_length=64, pattern=ID_PATTERN)] = ""
    title: Annotated[Text, Field(max_length=200, description="Left out, the first message's beginning.")] = ""


class ConversationChange(Body):
    """What shall be different."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"title": "Travel to Oslo", "archived": True}]})

    title: Annotated[SpokenText, Field(min_length=1, max_length=200)] | None = None
    archived: bool | None = None


@router.post(
    "",
    status_code=201,
    summary="Make a conversation",
    responses={**BODY_RESPONSES, **NOT_FOUND},
)
async def create_conversation(body: NewConversation, services: ServicesDep, _caller: Writer) -> Conversation:
    """A new conversation with no messages."""
    return await services.agents.create_conversation(body.agent, body.title)


@router.get("", summary="List conversations")
async def list_conversations(
    page: PageDep,
    services: ServicesDep,
    _caller: Reader,
    query: Annotated[
        Text, Query(max_length=200, description="Only those with this text in title or messages, whatever the case.")
    ] = "",
    include_archived: Annotated[bool, Query(description="Those in the archive too.")] = False,
) -> Page[Conversation]:
    """The caller's conversations, newest first."""
    return await services.agents.list_conversations(page, query=query, include_archived=include_archived)


@router.get("/{conversation_id}", summary="Get a conversation", responses=NOT_FOUND)
async def get_conversation(conversation_id: ResourceId, services: ServicesDep, _caller: Reader) -> Conversation:
    """One conversation."""
    return await services.agents.get_conversation(conversation_id)


@router.patch("/{conversation_id}", summary="Change a conversation", responses={**BODY_RESPONSES, **NOT_FOUND})
async def update_conversation(
    conversation_id: ResourceId, body: ConversationChange, services: ServicesDep, _caller: Writer
) -> Conversation:
    """Gives it another title, or puts it into the archive or out of it; what is left out stays."""
    return await services.agents.update_conversation(conversation_id, title=body.title, archived=body.archived)


@router.delete("/{conversation_id}", status_code=204, summary="Delete a conversation", responses=NOT_FOUND)
async def delete_conversation(conversation_id: ResourceId, services: ServicesDep, _caller: Writer) -> None:
    """Deletes a conversation with its messages and runs."""
    await services.agents.delete_conversation(conversation_id)


@router.get(
    "/{conversation_id}/export",
    summary="Export a conversation",
    response_class=Response,
    responses={
        **described("A row a line.", '{"table":"messages","row":{"id":"msg_01","text":"Hello"}}\n'),
        **NOT_FOUND,
    },
)
async def export_conversation(
    conversation_id: ResourceId, services: ServicesDep, _caller: Exporter
) -> StreamingResponse:
    """The conversation with its messages, runs, steps, approvals and feedback."""
    return await streamed(services.privacy.export_conversation(conversation_id))


@router.get("/{conversation_id}/messages", summary="List messages", responses=NOT_FOUND)
async def list_messages(
    conversation_id: ResourceId, page: PageDep, services: ServicesDep, _caller: Reader
) -> Page[Message]:
    """A conversation's messages, oldest first."""
    return await services.agents.list_messages(conversation_id, page)
