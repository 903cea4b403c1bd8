"""The guard of every route: key, permission, rate limit; then the caller's token for the services."""

import inspect
import math
from typing import Any, Final

import structlog
from errand_common.errors import RateLimited, Unauthenticated
from errand_common.principal import Principal
from errand_common.rpc.client import ending_within
from fastapi import APIRouter, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from errand_gateway.domain.auth import Caller
from errand_gateway.domain.limits import LimitDecision
from errand_gateway.domain.networks import Address, check_allowed, client_address
from errand_gateway.domain.permissions import Permission, require
from errand_gateway.transport.context import context_of
from errand_gateway.transport.errors import ApiHttpError, ErrorBody, OpenAiErrorBody
from errand_gateway.transport.idempotency import IDEMPOTENCY_PARAMETER, KeptAnswer, claim, has_key
from errand_gateway.transport.services import Services

SECURITY_SCHEMES: Final[dict[str, dict[str, str]]] = {
    "Bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`errand_PREFIX_SECRET`) or an access token.",
    },
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
}
"""How a caller may say who it is, for the API's description."""

_ONE_OF_THEM: Final[dict[str, Any]] = {"security": [{name: []} for name in SECURITY_SCHEMES]}
REQUEST_SECONDS: Final = 120.0

GUARDED_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    code: {"model": ErrorBody, "description": text}
    for code, text in {
        401: "No key, or one that is not valid.",
        403: "The key may not do this.",
        422: "A field breaks a rule; `details.fields` names it.",
        429: "Too many requests; `Retry-After` says when to come back.",
        500: "A fault of ours.",
        503: "A service behind is away; `details.dependency` names it.",
        504: "It took longer than it may.",
    }.items()
}
BODY_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    code: {"model": ErrorBody, "description": text}
    for code, text in {
        400: "The body is no valid JSON.",
        408: "The body took too long to come.",
        413: "The body is too large.",
        415: "The body is not of the type wanted.",
    }.items()
}
NOT_FOUND: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": ErrorBody, "description": "There is no such thing in this tenant."}
}
OTHER_VERSION: Final[dict[int | str, dict[str, Any]]] = {
    412: {"model": ErrorBody, "description": "Another version than the one in `If-Match` is in place."},
    428: {"model": ErrorBody, "description": "There is no `If-Match`, and the operator wants one."},
}
CONFLICT: Final[dict[int | str, dict[str, Any]]] = {
    409: {"model": ErrorBody, "description": "The name is taken, or the state does not allow it."}
}


class Requires:
    """A dependency that lets a caller with this permission pass; from then on the request acts as it."""

    def __init__(
        self,
        permission: Permission,
        *,
        media: str = "application/json",
        seconds: float = REQUEST_SECONDS,
    ) -> None:
        self.permission = permission
        self._media = media
        self._seconds = seconds

    async def __call__(self, request: Request) -> Principal:
        """The caller; raises what authentication, permission or limit refuse with.

        It depends on the request alone and has no end of its own (the request's context has): what the framework
        resolves for each request takes its time, and most of all generators.
        """
        services: Services = request.app.state.services
        context = context_of(request.scope)
        text = _credentials(request)
        caller = await services.authenticator.authenticate(text, request_id=context.request_id)
        principal = context.principal = caller.principal
        context.session_id = caller.session_id
        _check_address(request, services, caller)
        context.action = self.permission.value
        decision = await services.limiter.hit(principal)
        context.headers.update(_limit_headers(decision))
        if not decision.allowed:
            raise RateLimited(
                f"this {decision.scope} made more than {decision.limit} requests in the window; slow down",
                retry_after_seconds=decision.reset_seconds,
                limit=str(decision.limit),
            )
        require(principal, self.permission)
        _check_media(request, self._media)
        _check_precondition(request, services)
        structlog.contextvars.bind_contextvars(tenant_id=principal.tenant_id, principal_id=principal.id)
        if has_key(request.scope):
            context.claim = await claim(request, services.idempotency, principal)
        context.until_the_end.enter_context(services.tokens.acting_as(principal))
        context.until_the_end.enter_context(ending_within(self._seconds))
        return principal


def _credentials(request: Request) -> str | None:
    names = [name for name, _ in request.headers.raw]
    if names.count(b"authorization") > 1 or names.count(b"x-api-key") > 1:
        # Who stands before us may have looked at another one of them.
        raise Unauthenticated("send one key or token, not several")
    given = request.headers.get("authorization")
    if given is None:
        return request.headers.get("x-api-key")
    scheme, _, text = given.partition(" ")
    if scheme.lower() != "bearer" or not text:
        # Credentials of another kind must not pass unseen beside a good key.
        raise Unauthenticated("the Authorization header must be 'Bearer KEY'; or leave it out and send X-API-Key")
    return text.strip()


def _check_address(request: Request, services: Services, caller: Caller) -> None:
    for networks in caller.networks:
        if networks:
            check_allowed(caller_address(request, services), networks)


def caller_address(request: Request, services: Services) -> Address | None:
    """Where a request comes from, as far as proxies are believed."""
    peer = request.client.host if request.client else ""
    forwarded = ",".join(request.headers.getlist("x-forwarded-for"))
    return client_address(peer, forwarded, services.trusted_proxies)


RATE_LIMIT_HEADERS: Final = (
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-RateLimit-Limit-Tokens",
    "X-RateLimit-Remaining-Tokens",
)
"""What an answer says of the tightest limits of its caller."""


def _limit_headers(decision: LimitDecision) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(decision.limit),
        "X-RateLimit-Remaining": str(decision.remaining),
        "X-RateLimit-Reset": str(math.ceil(decision.reset_seconds)),
    }


def _is_guarded(dependant: Dependant) -> bool:
    return isinstance(dependant.call, Requires) or any(_is_guarded(child) for child in dependant.dependencies)


class GuardedRoute(APIRoute):
    """A route that cannot be made without a Requires: what is not allowed is denied."""

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:
        options["openapi_extra"] = {**(options.get("openapi_extra") or {}), **_ONE_OF_THEM}
        if "POST" in (options.get("methods") or ()):
            options["responses"] = {**CONFLICT, **(options.get("responses") or {})}
        self.takes_if_match = "if_match" in inspect.signature(endpoint).parameters
        if self.takes_if_match:
            options["responses"] = {**OTHER_VERSION, **(options.get("responses") or {})}
        super().__init__(path, endpoint, **options)
        known = {parameter.alias for parameter in self.dependant.header_params}
        if "POST" in (self.methods or ()) and IDEMPOTENCY_PARAMETER["name"] not in known:
            self.openapi_extra = {**options["openapi_extra"], "parameters": [IDEMPOTENCY_PARAMETER]}
        if not _is_guarded(self.dependant):
            raise TypeError(f"{path} has no Requires(permission); every route needs one")

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers; the answer to a request with an Idempotency-Key is kept."""
        if not has_key(scope):
            await super().handle(scope, receive, send)
            return
        answer = KeptAnswer(context_of(scope), send)
        try:
            await super().handle(scope, receive, answer.send)
        finally:
            await answer.close()


def guarded_router(**options: Any) -> APIRouter:
    """A router whose routes all need a permission and document what they refuse with."""
    return APIRouter(route_class=GuardedRoute, responses=GUARDED_RESPONSES, **options)


def openai_router(**options: Any) -> APIRouter:
    """The same for OpenAI's routes: errors have OpenAI's shape, and wrong requests are 400."""
    rows = {**GUARDED_RESPONSES, **BODY_RESPONSES, **NOT_FOUND, **CONFLICT}
    texts = {code: row["description"] for code, row in rows.items()}
    texts[400] = "The request is not valid; `error.param` names the parameter."
    responses: dict[int | str, dict[str, Any]] = {
        code: {"model": OpenAiErrorBody, "description": text} for code, text in texts.items() if code != 422
    }
    responses["4XX"] = {"model": OpenAiErrorBody, "description": "The request is refused."}
    return APIRouter(route_class=GuardedRoute, responses=responses, **options)


def _check_precondition(request: Request, services: Services) -> None:
    """Raises 428 for a change that says no version, where the operator wants one."""
    if not services.require_if_match or "if-match" in request.headers:
        return
    route = request.scope.get("route")
    if isinstance(route, GuardedRoute) and route.takes_if_match:
        message = "send If-Match with the ETag that you have seen, so that no other change is lost, or * for any"
        raise ApiHttpError(428, message, {"field": "If-Match"})


def _check_media(request: Request, wanted: str) -> None:
    """Raises 415 unless a body, where there is one, is declared to be of the type wanted."""
    headers = request.headers
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return
    if request.method not in {"POST", "PUT", "PATCH"}:
        return
    given = headers.get("content-type", "").split(";")[0].strip().lower()
    if given != wanted:
        raise ApiHttpError(415, f"send the body with Content-Type: {wanted}", {"field": "Content-Type"})
