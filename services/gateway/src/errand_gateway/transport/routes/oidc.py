"""People log in with a browser at their company's provider."""

from collections.abc import Sequence
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from errand_common.errors import Unauthenticated
from errand_common.principal import Principal
from fastapi import APIRouter, Form, Path, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ConfigDict, Field

from errand_gateway.domain.logins import ATTEMPT_SECONDS
from errand_gateway.transport.access import BODY_RESPONSES, GUARDED_RESPONSES, NOT_FOUND, caller_address
from errand_gateway.transport.context import context_of
from errand_gateway.transport.errors import ApiHttpError
from errand_gateway.transport.fields import Body, Text
from errand_gateway.transport.routes.auth import SessionTokens, noted, refuse_idempotency_key, session_tokens
from errand_gateway.transport.services import ServicesDep

PREFIX: Final = "/api/v1/auth/providers"
router = APIRouter(prefix=PREFIX, tags=["auth"], responses={**GUARDED_RESPONSES, **NOT_FOUND})
_COOKIE: Final = "errand_login"
_ACTION: Final = "auth:login"
_SENT_ON: Final[dict[int | str, dict[str, Any]]] = {302: {"description": "Where the browser goes on."}}

Provider = Annotated[str, Path(pattern=r"^[a-z0-9-]{1,20}$")]
Given = Annotated[str, Query(max_length=4096)]


class Providers(BaseModel):
    """Where people may log in."""

    items: Sequence[str] = Field(description="Names for `/api/v1/auth/providers/{name}/login`.")


class Ticket(Body):
    """What a page found in its address."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ticket": "c2VhbGVk…"}]})

    ticket: Annotated[Text, Field(min_length=1, max_length=4096)]


@router.get("", summary="List login providers")
async def list_providers(services: ServicesDep) -> Providers:
    """Providers that the operator has named."""
    return Providers(items=services.logins.names)


@router.get("/{provider}/login", summary="Log in at a provider", response_class=Response, responses=_SENT_ON)
async def login(
    provider: Provider,
    services: ServicesDep,
    return_to: Annotated[
        str, Query(max_length=2048, description="The page to come back to, one that the operator allows.")
    ] = "",
) -> RedirectResponse:
    """Sends the browser to the provider."""
    address, note = await services.logins.begin(provider, return_to)
    answer = RedirectResponse(address, 302)
    answer.set_cookie(
        _COOKIE,
        note,
        max_age=ATTEMPT_SECONDS,
        path=PREFIX,
        secure=services.public_url.startswith("https://"),
        httponly=True,
        # The provider sends the browser back from its own site.
        samesite="lax",
    )
    return answer


@router.get(
    "/{provider}/callback", summary="Come back from a provider", response_model=SessionTokens, responses=_SENT_ON
)
async def callback(
    provider: Provider,
    request: Request,
    response: Response,
    services: ServicesDep,
    state: Given = "",
    code: Given = "",
    error: Given = "",
) -> SessionTokens | RedirectResponse:
    """Begins a session; sends the browser on to the page with a ticket, or answers with tokens when there is none."""
    context = context_of(request.scope)
    context.action = _ACTION
    attempt = services.logins.attempt(provider, state, request.cookies.get(_COOKIE, ""))
    if error or not code:
        raise Unauthenticated("the provider did not confirm the login; begin again")
    await services.throttle.check(f"{provider}/{attempt.state}", str(caller_address(request, services)))
    grant = await services.logins.finish(code, attempt, found=noted(context))
    if not attempt.return_to:
        response.delete_cookie(_COOKIE, path=PREFIX)
        return session_tokens(grant, services.sessions.access_seconds)
    mark = "&" if "?" in attempt.return_to else "?"
    answer = RedirectResponse(f"{attempt.return_to}{mark}{urlencode({'ticket': services.logins.ticket(grant)})}", 302)
    answer.delete_cookie(_COOKIE, path=PREFIX)
    return answer


@router.post(
    "/{provider}/logout",
    summary="Be told of a logout",
    responses={**BODY_RESPONSES, 200: {"description": "What came from that session has ended."}},
)
async def log_out(
    provider: Provider,
    logout_token: Annotated[Text, Form(max_length=16_384, description="Signed by the provider.")],
    request: Request,
    services: ServicesDep,
) -> Response:
    """Ends the sessions that came from one which has ended at the provider (OpenID Connect Back-Channel Logout)."""
    await refuse_idempotency_key(request)
    context = context_of(request.scope)
    context.action = "auth:logout"
    try:
        people = await services.logins.log_out(provider, logout_token)
    except Unauthenticated as error:
        # What providers expect, who send no credentials of their own.
        raise ApiHttpError(400, error.message, {"field": "logout_token"}) from error
    for tenant_id, user_id in people:
        context.principal = Principal(tenant_id, user_id, request_id=context.request_id)
    return Response()


@router.post("/token", summary="Get tokens for a ticket", responses=BODY_RESPONSES)
async def redeem(body: Ticket, request: Request, services: ServicesDep) -> SessionTokens:
    """The first tokens of a session; a ticket is good once, for a minute, and one that comes again ends its session."""
    await refuse_idempotency_key(request)
    context = context_of(request.scope)
    context.action = _ACTION
    grant = await services.logins.redeem(body.ticket, found=noted(context))
    return session_tokens(grant, services.sessions.access_seconds)
