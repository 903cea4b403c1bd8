"""Quotas, for administrators."""

from datetime import datetime
from typing import Annotated

from errand_common.db import new_id, utc_now
from errand_common.principal import Principal
from fastapi import Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from errand_gateway.domain.admin import check_may_manage
from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.quotas import (
    Quota,
    QuotaMeasure,
    QuotaPeriod,
    QuotaState,
    QuotaSubject,
    check_may_set_quota,
)
from errand_gateway.domain.resources import Page
from errand_gateway.transport.access import BODY_RESPONSES, CONFLICT, NOT_FOUND, Requires, guarded_router
from errand_gateway.transport.etags import IfMatch, etag, expected_version
from errand_gateway.transport.fields import ID_PATTERN, Body, PageDep, ResourceId
from errand_gateway.transport.routes.admin_keys import TenantQuery
from errand_gateway.transport.services import Services, ServicesDep

router = guarded_router(prefix="/api/v1/admin/quotas", tags=["admin"])

Reader = Annotated[Principal, Depends(Requires(Permission.QUOTAS_READ))]
Writer = Annotated[Principal, Depends(Requires(Permission.QUOTAS_WRITE))]
Amount = Annotated[
    int, Field(ge=0, le=10**15, description="Tokens, or millionths of a US dollar; 0 lets nothing through.")
]


class NewQuota(Body):
    """A limit to be set."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"subject": "tenant", "period": "day", "measure": "tokens", "amount": 1_000_000}]
        }
    )

    subject: QuotaSubject = QuotaSubject.TENANT
    subject_id: Annotated[
        str, Field(max_length=64, pattern=ID_PATTERN, description="A key's or user's id; left out for a tenant.")
    ] = ""
    period: QuotaPeriod
    measure: QuotaMeasure
    amount: Amount
    tenant_id: Annotated[
        str,
        Field(
            max_length=64,
            pattern=ID_PATTERN,
            description="Another tenant, for the operator; left out, your own.",
        ),
    ] = ""


class QuotaChange(Body):
    """The limit a quota shall have."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"amount": 2_000_000}]})

    amount: Amount


class QuotaView(BaseModel):
    """A quota and how much of it is spent in the current period."""

    id: str
    tenant_id: str
    subject: QuotaSubject
    subject_id: str
    period: QuotaPeriod
    measure: QuotaMeasure
    amount: int
    version: int
    created_at: datetime
    period_start: str = Field(description="Day or month in UTC.", examples=["2026-11-21"])
    spent: int
    held: int = Field(description="Set aside for running work, in slices by gateway.")
    remaining: int


@router.post("", status_code=201, summary="Set a quota", responses={**BODY_RESPONSES, **NOT_FOUND, **CONFLICT})
async def create_quota(body: NewQuota, response: Response, services: ServicesDep, caller: Writer) -> QuotaView:
    """One quota for each subject, period and measure; tenants' own are set by the operator."""
    tenant = body.tenant_id or caller.tenant_id
    check_may_set_quota(caller, tenant, body.subject)
    quota = Quota(
        id=new_id("quota"),
        tenant_id=tenant,
        subject=body.subject,
        subject_id=tenant if body.subject is QuotaSubject.TENANT else body.subject_id,
        period=body.period,
        measure=body.measure,
        amount=body.amount,
        version=1,
        created_at=utc_now(),
    )
    await services.quotas.add(quota)
    services.keeper.forget()
    return await _shown(services, response, quota.tenant_id, quota.id)


@router.get("", summary="List quotas", responses=NOT_FOUND)
async def list_quotas(
    page: PageDep, services: ServicesDep, caller: Reader, tenant_id: TenantQuery = ""
) -> Page[QuotaView]:
    """Quotas with what is spent of them, newest first."""
    found = await services.quotas.list(_tenant(caller, tenant_id), page, utc_now())
    return Page([_view(state) for state in found.items], found.next_page_token)


@router.get("/{quota_id}", summary="Get a quota", responses=NOT_FOUND)
async def get_quota(
    quota_id: ResourceId, response: Response, services: ServicesDep, caller: Reader, tenant_id: TenantQuery = ""
) -> QuotaView:
    """One quota with what is spent of it; what gateways spent in the last second may be missing."""
    return await _shown(services, response, _tenant(caller, tenant_id), quota_id)


@router.patch("/{quota_id}", summary="Change a quota", responses={**BODY_RESPONSES, **NOT_FOUND, **CONFLICT})
async def change_quota(
    quota_id: ResourceId,
    body: QuotaChange,
    response: Response,
    services: ServicesDep,
    caller: Writer,
    tenant_id: TenantQuery = "",
    if_match: IfMatch = None,
) -> QuotaView:
    """What is spent stays spent; slices that gateways hold already may still be used."""
    tenant = _tenant(caller, tenant_id)
    await _check_may_change(services, caller, tenant, quota_id)
    await services.quotas.set_amount(tenant, quota_id, body.amount, expected_version=expected_version(if_match))
    services.keeper.forget()
    return await _shown(services, response, tenant, quota_id)


@router.delete("/{quota_id}", status_code=204, summary="Remove a quota", responses=NOT_FOUND)
async def delete_quota(
    quota_id: ResourceId, services: ServicesDep, caller: Writer, tenant_id: TenantQuery = ""
) -> None:
    """Removes the limit with its counts."""
    tenant = _tenant(caller, tenant_id)
    await _check_may_change(services, caller, tenant, quota_id)
    await services.quotas.delete(tenant, quota_id)
    services.keeper.forget()


async def _check_may_change(services: Services, caller: Principal, tenant: str, quota_id: str) -> None:
    state = await services.quotas.get(tenant, quota_id, utc_now())
    check_may_set_quota(caller, tenant, state.quota.subject)


async def _shown(services: Services, response: Response, tenant: str, quota_id: str) -> QuotaView:
    view = _view(await services.quotas.get(tenant, quota_id, utc_now()))
    response.headers["ETag"] = etag(view.version)
    return view


def _tenant(caller: Principal, wanted: str) -> str:
    tenant = wanted or caller.tenant_id
    check_may_manage(caller, tenant)
    return tenant


def _view(state: QuotaState) -> QuotaView:
    quota = state.quota
    return QuotaView(
        **{name: getattr(quota, name) for name in Quota.__slots__},
        period_start=state.period_start,
        spent=state.spent,
        held=state.held,
        remaining=state.remaining,
    )
