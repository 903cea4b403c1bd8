"""The audit log."""

from typing import Annotated

from errand_common.principal import Principal
from fastapi import Depends

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.records import AuditEntry, ChainCheck
from errand_gateway.domain.resources import Page
from errand_gateway.transport.access import Requires, guarded_router
from errand_gateway.transport.fields import PageDep
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/api/v1/admin/audit", tags=["admin"])

Reader = Annotated[Principal, Depends(Requires(Permission.AUDIT_READ))]


@router.get("", summary="List audit entries")
async def list_audit(page: PageDep, services: ServicesDep, caller: Reader) -> Page[AuditEntry]:
    """Every authenticated request of the tenant, newest first; written within a second."""
    return await services.records.list_audit(caller.tenant_id, page)


@router.get("/verify", summary="Verify the audit log")
async def verify_audit(services: ServicesDep, caller: Reader) -> ChainCheck:
    """Recomputes the tenant's hash chain; a changed or missing entry is named."""
    return await services.records.verify_audit(caller.tenant_id)
