"""One module a resource; ROUTERS is the list of all."""

from typing import Final

from fastapi import APIRouter

from errand_gateway.transport.routes import (
    chat,
    collections,
    documents,
    public,
    search,
    tokens,
)

ROUTERS: Final[tuple[APIRouter, ...]] = (
    chat.router,
    collections.router,
    documents.router,
    search.router,
    tokens.router,
    public.router,
)
