"""How calls of tools ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from errand_common.principal import Principal
from fastapi import Depends, Query

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.tool_resources import ToolQuality
from errand_gateway.transport.access import Requires, guarded_router
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/api/v1/tool-reports", tags=["tools"])


@dataclass(frozen=True, slots=True)
class ToolReport:
    """By tool and version, the most called first."""

    items: Sequence[ToolQuality]


@router.get("", summary="Report how calls of tools ended")
async def report_tools(
    services: ServicesDep,
    _caller: Annotated[Principal, Depends(Requires(Permission.TOOLS_WRITE))],
    tool: Annotated[str, Query(pattern=r"^[A-Za-z0-9._-]{0,128}$", description="Only of this tool.")] = "",
    days: Annotated[int, Query(ge=1, le=90, description="Days back from today (UTC), today among them.")] = 7,
) -> ToolReport:
    """Calls, how they ended, latency percentiles, cost and which arguments were refused."""
    return ToolReport(await services.tools.report_tools(name=tool, days=days))
