"""Tenants, for the operator."""

from typing import Annotated, Literal

from errand_common.db import utc_now
from errand_common.errors import Conflict
from errand_common.principal import Principal
from fastapi import Depends, Request, Response
from pydantic import ConfigDict, Field

from errand_gateway.domain.auth import TenantState
from errand_gateway.domain.erasures import TenantDeletion
from errand_gateway.domain.networks import check_allowed, parse_networks
from errand_gateway.domain.permissions import OPERATOR_TENANT, Permission
from errand_gateway.domain.resources import Page
from errand_gateway.domain.tenants import Tenant
from errand_gateway.transport.access import (
    BODY_RESPONSES,
    CONFLICT,
    NOT_FOUND,
    Requires,
    caller_address,
    guarded_router,
)
from errand_gateway.transport.fields import Body, PageDep, ResourceId, Text
from errand_gateway.transport.services import Services, ServicesDep

router = guarded_router(prefix="/api/v1/admin/tenants", tags=["admin"])

Operator = Annotated[Principal, Depends(Requires(Permission.TENANTS_MANAGE))]


class NewTenant(Body):
    """A tenant to be made."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": "acme", "display_name": "Acme Ltd"}]})

    id: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9][a-z0-9-]{1,62}$",
            description="2 to 63 lower-case letters, digits and '-'.",
        ),
    ]
    display_name: Annotated[Text, Field(max_length=200)] = ""


class TenantChange(Body):
    """What shall be different; what is left out stays."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"state": "suspended"}, {"allowed_networks": ["203.0.113.0/24"]}]}
    )

    state: Literal[TenantState.ACTIVE, TenantState.SUSPENDED] | None = None
    allowed_networks: Annotated[
        list[Annotated[str, Field(max_length=64)]] | None,
        Field(max_length=50, description="Where the tenant's keys and people may come from; none means anywhere."),
    ] = None


@router.post("", status_code=201, summary="Make a tenant", responses={**BODY_RESPONSES, **CONFLICT})
async def create_tenant(body: NewTenant, services: ServicesDep, _caller: Operator) -> Tenant:
    """A new tenant without keys."""
    tenant = Tenant(body.id, body.display_name or body.id, TenantState.ACTIVE, utc_now())
    await services.tenants.add(tenant)
    return tenant


@router.get("", summary="List tenants")
async def list_tenants(page: PageDep, services: ServicesDep, _caller: Operator) -> Page[Tenant]:
    """All tenants, by id."""
    return await services.tenants.list(page)


@router.get("/{tenant_id}", summary="Get a tenant", responses=NOT_FOUND)
async def get_tenant(tenant_id: ResourceId, services: ServicesDep, _caller: Operator) -> Tenant:
    """One tenant."""
    return await services.tenants.get(tenant_id)


@router.patch(
    "/{tenant_id}",
    summary="Change a tenant",
    responses={**BODY_RESPONSES, **NOT_FOUND, **CONFLICT},
)
async def change_tenant(
    tenant_id: ResourceId, body: TenantChange, request: Request, services: ServicesDep, caller: Operator
) -> Tenant:
    """A suspended tenant's keys and people are refused at once, as are those who come from elsewhere."""
    if tenant_id == OPERATOR_TENANT and body.state is TenantState.SUSPENDED:
        raise Conflict("the operator's own tenant cannot be suspended", resource="tenant", id=tenant_id)
    networks = None if body.allowed_networks is None else parse_networks(body.allowed_networks, "allowed_networks")
    if networks and tenant_id == caller.tenant_id:
        # Else the operator could lock everybody out, and nobody could undo it.
        check_allowed(caller_address(request, services), networks)
    tenant = await services.tenants.change(tenant_id, state=body.state, allowed_networks=networks)
    _forget(services)
    return tenant


@router.delete("/{tenant_id}", status_code=202, summary="Delete a tenant", responses={**NOT_FOUND, **CONFLICT})
async def delete_tenant(
    tenant_id: ResourceId, response: Response, services: ServicesDep, caller: Operator
) -> TenantDeletion:
    """Refuses its keys and people from now on and deletes all that every service has of it; its audit stays.

    It goes on until nothing is found; asked again it tells how far it is. It cannot be undone, and the id
    is not given to another tenant.
    """
    deletion = await services.deletions.order(tenant_id, caller)
    _forget(services)
    response.headers["Location"] = f"/api/v1/admin/tenants/{tenant_id}/deletion"
    return deletion


@router.get("/{tenant_id}/deletion", summary="Get the deletion of a tenant", responses=NOT_FOUND)
async def get_tenant_deletion(tenant_id: ResourceId, services: ServicesDep, _caller: Operator) -> TenantDeletion:
    """How far it is: what was erased by service and kind, and what the last look waits for."""
    return await services.deletions.get(tenant_id)


def _forget(services: Services) -> None:
    services.credentials.forget()
    services.sessions.forget()
    services.external.forget()
