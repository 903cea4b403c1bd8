"""Errors as HTTP answers: one body for the native API, OpenAI's shape for its routes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import orjson
import structlog
from errand_common.errors import ERROR_TABLE, ErrandError, InvalidArgument, Reason, Throttled
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from errand_gateway.transport.context import context_of
from errand_gateway.transport.tracing import describe_failure

OPENAI_PREFIX: Final = "/v1/"
_log = structlog.get_logger(__name__)

_HTTP_CODES: Final[Mapping[int, str]] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "REQUEST_TIMEOUT",
    412: "CONFLICT",
    413: "TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    428: "PRECONDITION_REQUIRED",
}

_OPENAI_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}


_OPENAI_CODES: Final[Mapping[str, str]] = {
    "UNAUTHENTICATED": "invalid_api_key",
    "MODEL_UNAVAILABLE": "model_not_found",
    "RATE_LIMIT": "rate_limit_exceeded",
    "QUOTA_EXCEEDED": "insufficient_quota",
    "UNSUPPORTED": "unsupported_parameter",
}
# OpenAI's clients know a wrong request by 400 and a missing model by 404.
_OPENAI_STATUS: Final[Mapping[str, int]] = {"422": 400, "UNSUPPORTED": 400, "MODEL_UNAVAILABLE": 404}


class ErrorBody(BaseModel):
    """Every error of the native API."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "code": "INVALID_ARGUMENT",
                "message": "message: String should have at least 1 character",
                "details": {"fields": [{"field": "message", "problem": "String should have at least 1 character"}]},
                "request_id": "req_0190c0ffee",
            }
        }
    )

    code: str = Field(description="Stable name of the reason, for programs.")
    message: str = Field(description="What went wrong and what cures it, for people.")
    details: dict[str, Any] = Field(description="Facts of this reason, such as `fields`.")
    request_id: str = Field(description="Name it when you ask for help.")


class OpenAiError(BaseModel):
    """What went wrong, as OpenAI tells it."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAiErrorBody(BaseModel):
    """Every error of the OpenAI-compatible routes."""

    error: OpenAiError


class ApiHttpError(HTTPException):
    """An HTTP error that no domain reason stands for, with the details of the error body."""

    def __init__(self, status: int, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(status, message)
        self.details = dict(details or {})


def error_response(
    request_id: str,
    path: str,
    *,
    status: int,
    code: str,
    message: str,
    details: Mapping[str, Any],
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer that tells an error; a fault of ours is told to the request's trace too."""
    if status >= 500:
        describe_failure(code)
    body = _body(request_id, path, status=status, code=code, message=message, details=details)
    if path.startswith(OPENAI_PREFIX):
        status = _OPENAI_STATUS.get(code, _OPENAI_STATUS.get(str(status), status))
    return Response(orjson.dumps(body), status, media_type="application/json", headers=dict(headers or {}))


def late_error(request_id: str, path: str, error: ErrandError) -> Mapping[str, Any]:
    """What a stream that began well tells of an error; a fault of ours is told to the request's trace too."""
    status, code, details, _ = _error_parts(error)
    if status >= 500:
        describe_failure(code)
    return _body(request_id, path, status=status, code=code, message=error.message, details=details)


def _body(
    request_id: str, path: str, *, status: int, code: str, message: str, details: Mapping[str, Any]
) -> Mapping[str, Any]:
    if path.startswith(OPENAI_PREFIX):
        return _openai_body(status, code, message, details)
    return {"code": code, "message": message, "details": details, "request_id": request_id}


def _openai_body(status: int, code: str, message: str, details: Mapping[str, Any]) -> Mapping[str, Any]:
    default = "server_error" if status >= 500 else "invalid_request_error"
    fields = details.get("fields") or [{}]
    return {
        "error": {
            "message": message,
            "type": _OPENAI_TYPES.get(status, default),
            "param": fields[0].get("field") or details.get("feature"),
            "code": _OPENAI_CODES.get(code, code.lower()),
        }
    }


def _error_parts(error: ErrandError) -> tuple[int, str, dict[str, Any], dict[str, str]]:
    """HTTP status, code, details and headers of a domain error."""
    details: dict[str, Any] = dict(error.metadata)
    headers: dict[str, str] = {}
    if isinstance(error, InvalidArgument):
        field = error.metadata.get("field", "")
        details["fields"] = [{"field": field, "problem": error.message}]
    if isinstance(error, Throttled):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_seconds)))
    if error.reason is Reason.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.reason is Reason.UNAVAILABLE:
        headers["Retry-After"] = "1"
    return ERROR_TABLE[error.reason].http, error.reason.value, details, headers


def answer_errand_error(request_id: str, path: str, error: ErrandError, *, status: int | None = None) -> Response:
    """A domain error as an answer, with its own status unless another is given."""
    own, code, details, headers = _error_parts(error)
    return error_response(
        request_id,
        path,
        status=status or own,
        code=code,
        message=error.message,
        details=details,
        headers=headers,
    )


def internal_error(request_id: str, path: str) -> Response:
    """A fault of ours: nothing of it is told but the request id."""
    return error_response(
        request_id,
        path,
        status=500,
        code=Reason.INTERNAL.value,
        message="something went wrong on our side; name the request id when you ask for help",
        details={},
    )


async def _on_errand_error(request: Request, error: Exception) -> Response:
    context = context_of(request.scope)
    failure = cast("ErrandError", error)
    if failure.reason is Reason.CONFLICT and "if-match" in request.headers:
        # The caller has seen another version: what HTTP calls a precondition that failed.
        return answer_errand_error(context.request_id, request.url.path, failure, status=412)
    return answer_errand_error(context.request_id, request.url.path, failure)


async def _on_http_error(request: Request, error: Exception) -> Response:
    failure = cast("HTTPException", error)
    message = _http_message(request, failure)
    headers = dict(failure.headers or {})
    if failure.status_code == 405:
        headers["Allow"] = ", ".join(allowed_methods(request))
    if failure.status_code in (408, 413):
        # The rest of the body is not read, so the connection cannot carry another request.
        headers["Connection"] = "close"
    return error_response(
        context_of(request.scope).request_id,
        request.url.path,
        status=failure.status_code,
        code=_HTTP_CODES.get(failure.status_code, "INVALID_ARGUMENT"),
        message=message,
        details=_http_details(failure, message),
        headers=headers,
    )


def allowed_methods(request: Request) -> list[str]:
    """All methods offered at the request's path: each route of a path knows its own alone."""
    routes: Sequence[APIRoute] = request.app.state.api_routes
    path = request.url.path
    return sorted({method for route in routes if route.path_regex.match(path) for method in route.methods or ()})


def _http_details(failure: HTTPException, message: str) -> Mapping[str, Any]:
    if isinstance(failure, ApiHttpError):
        return failure.details
    if failure.status_code == 400:
        return {"fields": [{"field": "body", "problem": message}]}
    return {}


def _http_message(request: Request, failure: HTTPException) -> str:
    if isinstance(failure, ApiHttpError):
        return failure.detail
    match failure.status_code:
        case 404:
            return "there is nothing at this path; /docs lists what there is"
        case 405:
            return f"{request.method} is not offered at this path; the Allow header lists what is"
        case 400:
            return "the body cannot be read; send valid JSON in UTF-8"
        case _:
            return failure.detail


async def _on_validation_error(request: Request, error: Exception) -> Response:
    problems = cast("RequestValidationError", error).errors()
    malformed = any(problem["type"] == "json_invalid" for problem in problems)
    fields = [_problem(problem) for problem in problems[:20]]
    first = fields[0] if fields else {"field": "", "problem": "the request is not valid"}
    prefix = f"{first['field']}: " if first["field"] else ""
    return error_response(
        context_of(request.scope).request_id,
        request.url.path,
        status=400 if malformed else 422,
        code=Reason.INVALID_ARGUMENT.value,
        message=f"{prefix}{first['problem']}",
        details={"fields": fields},
    )


def _problem(problem: Mapping[str, Any]) -> dict[str, str]:
    if problem["type"] == "json_invalid":
        reason = problem.get("ctx", {}).get("error", "")
        return {"field": "body", "problem": f"the body is no valid JSON: {reason}"}
    where: Sequence[Any] = problem["loc"]
    # The first part says where the field was (body, query, path, header); without it, names are
    # those the caller wrote. A body that is missing as a whole has nothing but it.
    names = [str(part) for part in where[1:]] or [str(part) for part in where]
    return {"field": ".".join(names)[:200], "problem": str(problem["msg"])[:500]}


def install_error_handlers(app: FastAPI, routes: Sequence[APIRoute]) -> None:
    """Gives the app its error answers; anything not handled here is the middleware's."""
    app.state.api_routes = tuple(routes)
    app.add_exception_handler(ErrandError, _on_errand_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
