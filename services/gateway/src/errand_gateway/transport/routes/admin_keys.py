"""API keys, for administrators."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

from errand_common.db import new_id, utc_now
from errand_common.errors import Conflict, InvalidArgument
from errand_common.principal import Principal
from fastapi import Depends, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from errand_gateway.domain.admin import NewKey, check_may_grant, check_may_manage, make_key
from errand_gateway.domain.keys import ApiKey
from errand_gateway.domain.networks import parse_networks
from errand_gateway.domain.permissions import Permission, Role, Scope
from errand_gateway.domain.resources import Page
from errand_gateway.transport.access import (
    BODY_RESPONSES,
    CONFLICT,
    NOT_FOUND,
    Requires,
    guarded_router,
)
from errand_gateway.transport.fields import ID_PATTERN, Body, PageDep, ResourceId, SpokenText
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/api/v1/admin/keys", tags=["admin"])

Reader = Annotated[Principal, Depends(Requires(Permission.KEYS_READ))]
Writer = Annotated[Principal, Depends(Requires(Permission.KEYS_WRITE))]
TenantQuery = Annotated[
    str,
    Query(
        max_length=64,
        pattern=ID_PATTERN,
        description="Another tenant, for the operator; left out, your own.",
    ),
]


class NewKeyRequest(Body):
    """A key to be made."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "checkout service", "roles": ["user"], "scopes": ["chat"]}]}
    )

    name: Annotated[SpokenText, Field(min_length=1, max_length=200)]
    roles: list[Role] = Field(default=[Role.USER], min_length=1, max_length=5)
    scopes: list[Scope] = Field(default=[Scope.CHAT], min_length=1, max_length=4)
    expires_at: AwareDatetime | None = None
    allowed_networks: list[Annotated[str, Field(max_length=64)]] = Field(
        default=[],
        max_length=50,
        description="Where the key may be used from, such as 10.0.0.0/8; none means anywhere.",
    )
    tenant_id: Annotated[
        str,
        Field(
            max_length=64,
            pattern=ID_PATTERN,
            description="Another tenant, for the operator; left out, your own.",
        ),
    ] = ""


class Rotation(Body):
    """How a key is replaced."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"overlap_seconds": 86_400}]})

    overlap_seconds: Annotated[
        int, Field(ge=0, le=30 * 86_400, description="How long the old key works beside the new one.")
    ] = 86_400


class KeyView(BaseModel):
    """A key without its secret."""

    id: str
    tenant_id: str
    prefix: str
    name: str
    roles: Sequence[Role]
    scopes: Sequence[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    allowed_networks: Sequence[str]


class CreatedKey(KeyView):
    """A new key with its text, which is never shown again."""

    key: str = Field(examples=["errand_0a1b2c3d4e5f_…"])


@router.post(
    "",
    status_code=201,
    summary="Make a key",
    responses={**BODY_RESPONSES, **NOT_FOUND, **CONFLICT},
)
async def create_key(body: NewKeyRequest, services: ServicesDep, caller: Writer) -> CreatedKey:
    """A new key; it may do no more than its maker."""
    now = utc_now()
    if body.expires_at is not None and body.expires_at <= now:
        raise InvalidArgument("expires_at must be in the future", field="expires_at")
    wanted = NewKey(
        tenant_id=body.tenant_id or caller.tenant_id,
        name=body.name,
        roles=frozenset(role.value for role in body.roles),
        scopes=frozenset(scope.value for scope in body.scopes),
        expires_at=body.expires_at,
        allowed_networks=parse_networks(body.allowed_networks, "allowed_networks"),
    )
    check_may_grant(caller, wanted)
    key, text = make_key(wanted, services.pepper, key_id=new_id("key"), now=now)
    await services.keys.add(key)
    return CreatedKey(key=text, **_fields(key))


@router.get("", summary="List keys", responses=NOT_FOUND)
async def list_keys(page: PageDep, services: ServicesDep, caller: Reader, tenant_id: TenantQuery = "") -> Page[KeyView]:
    """Keys, newest first, without their secrets."""
    tenant = _tenant(caller, tenant_id)
    found = await services.keys.list(tenant, page)
    return Page([KeyView(**_fields(key)) for key in found.items], found.next_page_token)


@router.get("/{key_id}", summary="Get a key", responses=NOT_FOUND)
async def get_key(key_id: ResourceId, services: ServicesDep, caller: Reader, tenant_id: TenantQuery = "") -> KeyView:
    """One key without its secret."""
    return KeyView(**_fields(await services.keys.get(_tenant(caller, tenant_id), key_id)))


@router.delete("/{key_id}", summary="Revoke a key", responses=NOT_FOUND)
async def revoke_key(key_id: ResourceId, services: ServicesDep, caller: Writer, tenant_id: TenantQuery = "") -> KeyView:
    """The key is refused from now on; it stays in the listing."""
    key = await services.keys.revoke(_tenant(caller, tenant_id), key_id)
    services.credentials.forget()
    return KeyView(**_fields(key))


@router.post(
    "/{key_id}/rotate", status_code=201, summary="Replace a key", responses={**BODY_RESPONSES, **NOT_FOUND, **CONFLICT}
)
async def rotate_key(
    key_id: ResourceId, body: Rotation, services: ServicesDep, caller: Writer, tenant_id: TenantQuery = ""
) -> CreatedKey:
    """A new key that may do the same; the old one works on for a while. Quotas of keys are set by key."""
    now = utc_now()
    old = await services.keys.get(_tenant(caller, tenant_id), key_id)
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
        raise Conflict("the key was revoked or has expired; make a new one", resource="key", id=key_id)
    wanted = NewKey(old.tenant_id, old.name, old.roles, old.scopes, old.expires_at, old.allowed_networks)
    check_may_grant(caller, wanted)
    key, text = make_key(wanted, services.pepper, key_id=new_id("key"), now=now)
    await services.keys.add(key)
    await services.keys.expire(old.tenant_id, old.id, now + timedelta(seconds=body.overlap_seconds))
    services.credentials.forget()
    return CreatedKey(key=text, **_fields(key))


def _tenant(caller: Principal, wanted: str) -> str:
    tenant = wanted or caller.tenant_id
    check_may_manage(caller, tenant)
    return tenant


def _fields(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenant_id": key.tenant_id,
        "prefix": key.prefix,
        "name": key.name,
        "roles": sorted(key.roles),
        "scopes": sorted(key.scopes),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
        "allowed_networks": key.allowed_networks,
    }
