"""People log in with a password, renew their tokens and log out."""

from collections.abc import Callable, Sequence
from typing import Annotated, Final

from errand_common.errors import InvalidArgument
from errand_common.principal import Principal
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from errand_gateway.domain.permissions import OPERATOR_TENANT, Permission, permissions_of
from errand_gateway.domain.sessions import Grant
from errand_gateway.domain.users import User
from errand_gateway.transport.access import BODY_RESPONSES, GUARDED_RESPONSES, Requires, caller_address, guarded_router
from errand_gateway.transport.context import RequestContext, context_of
from errand_gateway.transport.fields import ID_PATTERN, Body, Text
from errand_gateway.transport.services import ServicesDep
from errand_gateway.transport.user_fields import Email, NewPassword


async def refuse_idempotency_key(request: Request) -> None:
    """Kept answers belong to a caller, and here nobody is known yet; a key that is ignored would promise too much."""
    if "idempotency-key" in request.headers:
        raise InvalidArgument("is not taken here; leave it out and log in again", field="Idempotency-Key")


open_router = APIRouter(
    prefix="/api/v1/auth",
    tags=["auth"],
    responses={**GUARDED_RESPONSES, **BODY_RESPONSES},
    dependencies=[Depends(refuse_idempotency_key)],
)
router = guarded_router(prefix="/api/v1", tags=["auth"])

Self = Annotated[Principal, Depends(Requires(Permission.SELF_MANAGE))]
_TOKENS: Final[JsonDict] = {
    "access_token": "eyJhbGciOiJFZERTQSJ9.e30.c2ln",
    "token_type": "Bearer",
    "expires_in": 900,
    "refresh_token": "errand_refresh_…",
    "user_id": "user_0190c0ffee",
}


class Login(Body):
    """Who wants to log in."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"email": "ada@example.com", "password": "correct horse battery"}]}
    )

    tenant_id: Annotated[str, Field(max_length=64, pattern=ID_PATTERN)] = OPERATOR_TENANT
    email: Email
    password: Annotated[Text, Field(min_length=1, max_length=256)]


class Refresh(Body):
    """A refresh token, which is good once."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"refresh_token": "errand_refresh_…"}]})

    refresh_token: Annotated[Text, Field(min_length=1, max_length=512)]


class PasswordChange(Body):
    """The password there is, and the one there shall be."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"current_password": "correct horse battery", "new_password": "staple horse battery"}]
        }
    )

    current_password: Annotated[Text, Field(min_length=1, max_length=256)]
    new_password: NewPassword


class SessionTokens(BaseModel):
    """Send `access_token` as `Authorization: Bearer TOKEN`; `refresh_token` gets the next pair, once."""

    model_config = ConfigDict(json_schema_extra={"examples": [_TOKENS]})

    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - the scheme's name
    expires_in: int = Field(description="Seconds that the access token is good.")
    refresh_token: str
    user_id: str


class Me(BaseModel):
    """Who the caller is and what it may do."""

    id: str
    tenant_id: str
    roles: Sequence[str]
    scopes: Sequence[str]
    permissions: Sequence[Permission]
    email: str | None = Field(description="None for keys and for people of another issuer.")


@open_router.post("/login", summary="Log in")
async def login(body: Login, request: Request, services: ServicesDep) -> SessionTokens:
    """Begins a session; after too many attempts at an account, or from an address, with 429."""
    context = context_of(request.scope)
    context.action = "auth:login"
    grant = await services.sessions.login(
        body.tenant_id,
        body.email,
        body.password,
        address=str(caller_address(request, services)),
        found=noted(context),
    )
    return session_tokens(grant, services.sessions.access_seconds)


@open_router.post("/refresh", summary="Renew tokens")
async def refresh(body: Refresh, request: Request, services: ServicesDep) -> SessionTokens:
    """The next pair of tokens; a refresh token that comes a second time ends its session."""
    context = context_of(request.scope)
    context.action = "auth:refresh"
    grant = await services.sessions.refresh(body.refresh_token, found=noted(context))
    return session_tokens(grant, services.sessions.access_seconds)


@router.post("/auth/logout", status_code=204, summary="Log out")
async def logout(request: Request, services: ServicesDep, caller: Self) -> None:
    """Ends the session; API keys have none and are revoked instead."""
    await services.sessions.end(caller.tenant_id, _session(request))


@router.get("/me", summary="Who am I?")
async def me(request: Request, services: ServicesDep, caller: Self) -> Me:
    """The caller as the gateway knows it."""
    email = None
    if context_of(request.scope).session_id:
        email = (await services.users.get(caller.tenant_id, caller.id)).email
    return Me(
        id=caller.id,
        tenant_id=caller.tenant_id,
        roles=sorted(caller.roles),
        scopes=sorted(caller.scopes),
        permissions=sorted(permissions_of(caller.roles, caller.scopes)),
        email=email,
    )


@router.post("/me/password", status_code=204, summary="Change my password", responses=BODY_RESPONSES)
async def change_password(body: PasswordChange, request: Request, services: ServicesDep, caller: Self) -> None:
    """Sets another password and ends all other sessions."""
    session = _session(request)
    await services.sessions.change_password(
        caller.tenant_id,
        caller.id,
        body.current_password,
        body.new_password,
        session_id=session,
        address=str(caller_address(request, services)),
    )


def _session(request: Request) -> str:
    session = context_of(request.scope).session_id
    if not session:
        raise InvalidArgument("send the access token of a login; keys have no session", field="Authorization")
    return session


def noted(context: RequestContext) -> Callable[[User], None]:
    """Writes down for whom an attempt to log in is made, as soon as that is known."""

    def note(user: User) -> None:
        # Attempts at an account are written into its tenant's audit, whether they succeed or not.
        context.principal = Principal(user.tenant_id, user.id, request_id=context.request_id)

    return note


def session_tokens(grant: Grant, seconds: float) -> SessionTokens:
    """What a login is answered with."""
    return SessionTokens(
        access_token=grant.access_token,
        expires_in=int(seconds),
        refresh_token=grant.refresh_token,
        user_id=grant.user.id,
    )
