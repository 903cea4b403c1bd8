"""The tenant's tools and agents for any MCP client: HTTP without sessions, behind the same guard as every route."""

import asyncio
import importlib
from typing import Annotated, Final

from errand_common.principal import Principal
from fastapi import Depends, Request
from starlette.responses import Response

from errand_gateway.domain.permissions import Permission
from errand_gateway.transport.access import Requires, guarded_router
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/mcp", tags=["mcp"])

Caller = Annotated[Principal, Depends(Requires(Permission.TOOLS_READ))]
# The protocol's SDK takes 25 MB: gateways that nobody asks this way do without.
_SERVER: Final = "errand_gateway.transport.mcp_server"


# Not in the OpenAPI description: one path of JSON-RPC, described by the Model Context Protocol.
@router.post("", include_in_schema=False)
async def mcp(request: Request, services: ServicesDep, caller: Caller) -> Response:
    """One MCP message. Nothing is kept between messages, so any replica answers any of them."""
    server = await asyncio.to_thread(importlib.import_module, _SERVER)
    answer: Response = server.McpAnswer(request, services, caller)
    return answer
