"""One module a resource; ROUTERS is the list of all."""

from typing import Final

from fastapi import APIRouter

from errand_gateway.transport.routes import (
    admin_audit,
    admin_keys,
    admin_quotas,
    admin_tenants,
    agents,
    chat,
    collections,
    conversations,
    documents,
    effects,
    feedback,
    mcp,
    openai_chat,
    openai_conversations,
    openai_files,
    openai_models,
    openai_responses,
    openai_vector_stores,
    public,
    runs,
    search,
    tokens,
    tools,
    usage,
)

ROUTERS: Final[tuple[APIRouter, ...]] = (
    chat.router,
    runs.router,
    conversations.router,
    agents.router,
    tools.router,
    effects.router,
    feedback.router,
    collections.router,
    documents.router,
    search.router,
    usage.router,
    admin_tenants.router,
    admin_keys.router,
    admin_quotas.router,
    admin_audit.router,
    tokens.router,
    openai_chat.router,
    openai_models.router,
    openai_responses.router,
    openai_conversations.router,
    openai_files.router,
    openai_vector_stores.router,
    mcp.router,
    public.router,
)
