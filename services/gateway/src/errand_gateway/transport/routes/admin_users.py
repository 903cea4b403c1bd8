"""People of a tenant, for administrators."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from errand_common.db import new_id, utc_now
from errand_common.principal import Principal
from fastapi import Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from errand_gateway.domain.admin import check_may_manage
from errand_gateway.domain.permissions import Permission, Role
from errand_gateway.domain.resources import Page
from errand_gateway.domain.users import User, UserState, check_may_give
from errand_gateway.transport.access import (
    BODY_RESPONSES,
    CONFLICT,
    NOT_FOUND,
    Requires,
    guarded_router,
)
from errand_gateway.transport.etags import IfMatch, etag, expected_version
from errand_gateway.transport.fields import ID_PATTERN, Body, PageDep, ResourceId, Text
from errand_gateway.transport.services import Services, ServicesDep
from errand_gateway.transport.user_fields import Email, NewPassword

router = guarded_router(prefix="/api/v1/admin/users", tags=["admin"])

Reader = Annotated[Principal, Depends(Requires(Permission.USERS_READ))]
Writer = Annotated[Principal, Depends(Requires(Permission.USERS_WRITE))]
TenantQuery = Annotated[
    str,
    Query(max_length=64, pattern=ID_PATTERN, description="Another tenant, for the operator; left out, your own."),
]
Roles = Annotated[list[Role], Field(min_length=1, max_length=5)]


class NewUser(Body):
    """A person to be added."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"email": "ada@example.com", "password": "correct horse battery", "roles": ["developer"]}]
        }
    )

    email: Email
    password: NewPassword
    display_name: Annotated[Text, Field(max_length=200)] = ""
    roles: Roles = Field(default=[Role.USER])
    tenant_id: Annotated[
        str,
        Field(max_length=64, pattern=ID_PATTERN, description="Another tenant, for the operator; left out, your own."),
    ] = ""


class UserChange(Body):
    """What shall be different; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"roles": ["viewer"]}, {"state": "disabled"}]})

    display_name: Annotated[Text | None, Field(max_length=200)] = None
    roles: Roles | None = None
    state: UserState | None = None
    password: NewPassword | None = None


class UserView(BaseModel):
    """A person, without the password."""

    id: str
    tenant_id: str
    email: str
    display_name: str
    roles: Sequence[Role]
    state: UserState
    version: int
    created_at: datetime
    last_login_at: datetime | None


@router.post("", status_code=201, summary="Add a user", responses={**BODY_RESPONSES, **NOT_FOUND, **CONFLICT})
async def create_user(body: NewUser, response: Response, services: ServicesDep, caller: Writer) -> UserView:
    """A person who may log in; with no more rights than yours."""
    tenant = body.tenant_id or caller.tenant_id
    roles = frozenset(role.value for role in body.roles)
    check_may_give(caller, tenant, roles)
    user = User(
        id=new_id("user"),
        tenant_id=tenant,
        email=body.email,
        display_name=body.display_name,
        roles=roles,
        state=UserState.ACTIVE,
        version=1,
        created_at=utc_now(),
        last_login_at=None,
        password_hash=await services.sessions.hash(body.password),
    )
    await services.users.add(user)
    return _shown(user, response)


@router.get("", summary="List users", responses=NOT_FOUND)
async def list_users(
    page: PageDep, services: ServicesDep, caller: Reader, tenant_id: TenantQuery = ""
) -> Page[UserView]:
    """People, newest first."""
    found = await services.users.list(_tenant(caller, tenant_id), page)
    return Page([_view(user) for user in found.items], found.next_page_token)


@router.get("/{user_id}", summary="Get a user", responses=NOT_FOUND)
async def get_user(
    user_id: ResourceId, response: Response, services: ServicesDep, caller: Reader, tenant_id: TenantQuery = ""
) -> UserView:
    """One person."""
    return _shown(await services.users.get(_tenant(caller, tenant_id), user_id), response)


@router.patch("/{user_id}", summary="Change a user", responses={**BODY_RESPONSES, **NOT_FOUND, **CONFLICT})
async def change_user(
    user_id: ResourceId,
    body: UserChange,
    response: Response,
    services: ServicesDep,
    caller: Writer,
    tenant_id: TenantQuery = "",
    if_match: IfMatch = None,
) -> UserView:
    """New rights hold at once; a new password and a disabled account end all sessions."""
    user = await services.users.get(_tenant(caller, tenant_id), user_id)
    # Neither may someone be made more than the caller is, nor may the caller's betters be changed.
    check_may_give(caller, user.tenant_id, user.roles)
    changed = await _changed(services, user, body)
    check_may_give(caller, user.tenant_id, changed.roles)
    stored = await services.users.update(changed, expected_version=expected_version(if_match))
    if body.password is not None or changed.state is UserState.DISABLED:
        await services.sessions.end_all(user.tenant_id, user.id)
    services.sessions.forget()
    return _shown(stored, response)


@router.delete("/{user_id}", status_code=204, summary="Remove a user", responses=NOT_FOUND)
async def delete_user(user_id: ResourceId, services: ServicesDep, caller: Writer, tenant_id: TenantQuery = "") -> None:
    """Removes a person and ends all sessions; what the person made stays."""
    user = await services.users.get(_tenant(caller, tenant_id), user_id)
    check_may_give(caller, user.tenant_id, user.roles)
    await services.users.delete(user.tenant_id, user.id)
    services.sessions.forget()


async def _changed(services: Services, user: User, body: UserChange) -> User:
    changes: dict[str, Any] = body.model_dump(exclude_none=True, exclude={"password", "roles"})
    if body.roles is not None:
        changes["roles"] = frozenset(role.value for role in body.roles)
    if body.password is not None:
        changes["password_hash"] = await services.sessions.hash(body.password)
    return replace(user, **changes)


def _tenant(caller: Principal, wanted: str) -> str:
    tenant = wanted or caller.tenant_id
    check_may_manage(caller, tenant)
    return tenant


def _shown(user: User, response: Response) -> UserView:
    response.headers["ETag"] = etag(user.version)
    return _view(user)


def _view(user: User) -> UserView:
    values = {name: getattr(user, name) for name in User.__slots__ if name != "password_hash"}
    return UserView(**values | {"roles": sorted(user.roles)})
