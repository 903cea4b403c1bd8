"""What requests used."""

from typing import Annotated

from errand_common.principal import Principal
from fastapi import Depends, Query
from pydantic import AwareDatetime

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.records import UsageRecord
from errand_gateway.domain.resources import Page
from errand_gateway.transport.access import Requires, guarded_router
from errand_gateway.transport.fields import PageDep
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/api/v1", tags=["usage"])


@router.get("/usage", summary="List usage")
async def list_usage(
    page: PageDep,
    services: ServicesDep,
    caller: Annotated[Principal, Depends(Requires(Permission.USAGE_READ))],
    since: Annotated[AwareDatetime | None, Query(description="Rows from then on.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Rows before then.")] = None,
) -> Page[UsageRecord]:
    """One row for each request that ran an agent or a model, newest first."""
    return await services.records.list_usage(caller.tenant_id, page, since=since, until=until)
