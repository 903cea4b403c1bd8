# ruff: noqa: N818 - the classes are named as the reasons that callers know
"""Every error a caller may see, and the one table that gives it a gRPC and an HTTP status.

ErrandError
├── InvalidArgument        the request breaks a rule of its fields
├── TooLarge               a body, document or message is too large
├── UnsupportedMediaType   the type of the content is not accepted
├── Unauthenticated        who are you?
├── PermissionDenied       you may not
├── NotFound               not in this tenant
├── AlreadyExists          the name is taken
├── Conflict               the state does not allow it
├── Throttled              come back later
│   ├── RateLimited        … too many requests
│   ├── QuotaExceeded      … the quota is spent
│   └── Overloaded         … a bounded queue is full
├── DeadlineExceeded       the time is over
├── Cancelled              the caller went away
├── Unavailable            a service behind is away
├── Unsupported            known, but not offered here
├── ModelUnavailable       the model cannot be loaded or is not known
├── EffectUnsettled        a person must settle a call's outcome
└── Internal               a fault of ours
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar


class Reason(StrEnum):
    """Why a call failed: the names of errand.common.v1.ErrorReason without their prefix."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    CONFLICT = "CONFLICT"
    RATE_LIMIT = "RATE_LIMIT"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    OVERLOADED = "OVERLOADED"
    TOO_LARGE = "TOO_LARGE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    UNAVAILABLE = "UNAVAILABLE"
    UNSUPPORTED = "UNSUPPORTED"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    MODEL_UNAVAILABLE = "MODEL_UNAVAILABLE"
    EFFECT_UNSETTLED = "EFFECT_UNSETTLED"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class ErrorStatus:
    """How a reason shows on the wire: name of the gRPC status code, HTTP status."""

    grpc: str
    http: int


ERROR_TABLE: Mapping[Reason, ErrorStatus] = MappingProxyType(
    {
        Reason.INVALID_ARGUMENT: ErrorStatus("INVALID_ARGUMENT", 422),
        Reason.UNAUTHENTICATED: ErrorStatus("UNAUTHENTICATED", 401),
        Reason.PERMISSION_DENIED: ErrorStatus("PERMISSION_DENIED", 403),
        Reason.NOT_FOUND: ErrorStatus("NOT_FOUND", 404),
        Reason.ALREADY_EXISTS: ErrorStatus("ALREADY_EXISTS", 409),
        Reason.CONFLICT: ErrorStatus("ABORTED", 409),
        Reason.RATE_LIMIT: ErrorStatus("RESOURCE_EXHAUSTED", 429),
        Reason.QUOTA_EXCEEDED: ErrorStatus("RESOURCE_EXHAUSTED", 429),
        Reason.OVERLOADED: ErrorStatus("RESOURCE_EXHAUSTED", 429),
        Reason.TOO_LARGE: ErrorStatus("OUT_OF_RANGE", 413),
        Reason.DEADLINE_EXCEEDED: ErrorStatus("DEADLINE_EXCEEDED", 504),
        Reason.CANCELLED: ErrorStatus("CANCELLED", 499),
        Reason.UNAVAILABLE: ErrorStatus("UNAVAILABLE", 503),
        Reason.UNSUPPORTED: ErrorStatus("UNIMPLEMENTED", 501),
        Reason.UNSUPPORTED_MEDIA_TYPE: ErrorStatus("INVALID_ARGUMENT", 415),
        Reason.MODEL_UNAVAILABLE: ErrorStatus("FAILED_PRECONDITION", 409),
        Reason.EFFECT_UNSETTLED: ErrorStatus("FAILED_PRECONDITION", 409),
        Reason.INTERNAL: ErrorStatus("INTERNAL", 500),
    }
)


class ErrandError(Exception):
    """Base of all errors that are told to a caller; its message is safe to show."""

    reason: ClassVar[Reason] = Reason.INTERNAL

    def __init__(self, message: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = {key: value for key, value in (metadata or {}).items() if value}

    @property
    def status(self) -> ErrorStatus:
        """How it shows on the wire."""
        return ERROR_TABLE[self.reason]


class InvalidArgument(ErrandError):
    """A field breaks a rule; the message names the cure."""

    reason = Reason.INVALID_ARGUMENT

    def __init__(self, message: str, *, field: str, rule: str = "") -> None:
        super().__init__(message, {"field": field, "rule": rule})


class TooLarge(ErrandError):
    """A body, document or message is larger than allowed."""

    reason = Reason.TOO_LARGE

    def __init__(self, message: str, *, field: str, limit: int | str) -> None:
        super().__init__(message, {"field": field, "limit": str(limit)})


class UnsupportedMediaType(ErrandError):
    """The content's type is not accepted."""

    reason = Reason.UNSUPPORTED_MEDIA_TYPE

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message, {"field": field})


class Unauthenticated(ErrandError):
    """No credentials, or credentials that are not valid."""

    reason = Reason.UNAUTHENTICATED

    def __init__(self, message: str = "Credentials are missing or not valid.") -> None:
        super().__init__(message)


class PermissionDenied(ErrandError):
    """The principal may not do this."""

    reason = Reason.PERMISSION_DENIED

    def __init__(self, message: str, *, permission: str = "") -> None:
        super().__init__(message, {"permission": permission})


class NotFound(ErrandError):
    """The thing named does not exist in this tenant."""

    reason = Reason.NOT_FOUND

    def __init__(self, resource: str, id: str) -> None:
        super().__init__(f"There is no {resource} {id!r}.", {"resource": resource, "id": id})


class AlreadyExists(ErrandError):
    """The name or key is taken."""

    reason = Reason.ALREADY_EXISTS

    def __init__(self, resource: str, id: str) -> None:
        super().__init__(f"A {resource} {id!r} exists already.", {"resource": resource, "id": id})


class Conflict(ErrandError):
    """The state does not allow it, or another writer was first."""

    reason = Reason.CONFLICT

    def __init__(self, message: str, *, resource: str = "", id: str = "") -> None:
        super().__init__(message, {"resource": resource, "id": id})


class Throttled(ErrandError):
    """Refused for now; `retry_after_seconds` says when to come back."""

    def __init__(self, message: str, *, retry_after_seconds: float, **metadata: str) -> None:
        super().__init__(message, {"retry_after_seconds": f"{retry_after_seconds:.3f}", **metadata})
        self.retry_after_seconds = retry_after_seconds


class RateLimited(Throttled):
    """Too many requests."""

    reason = Reason.RATE_LIMIT

    def __init__(self, message: str, *, retry_after_seconds: float, limit: str = "") -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds, limit=limit)


class QuotaExceeded(Throttled):
    """A quota is spent."""

    reason = Reason.QUOTA_EXCEEDED

    def __init__(self, message: str, *, retry_after_seconds: float, quota: str = "") -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds, quota=quota)


class Overloaded(Throttled):
    """A bounded queue is full."""

    reason = Reason.OVERLOADED

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)


class DeadlineExceeded(ErrandError):
    """The deadline passed before the work was done."""

    reason = Reason.DEADLINE_EXCEEDED


class Cancelled(ErrandError):
    """The caller went away or cancelled."""

    reason = Reason.CANCELLED


class Unavailable(ErrandError):
    """A service behind this one cannot be reached."""

    reason = Reason.UNAVAILABLE

    def __init__(self, dependency: str, message: str | None = None) -> None:
        super().__init__(message or f"The {dependency} service is not available.", {"dependency": dependency})
        self.dependency = dependency


class Unsupported(ErrandError):
    """The feature is known but not offered here."""

    reason = Reason.UNSUPPORTED

    def __init__(self, message: str, *, feature: str) -> None:
        super().__init__(message, {"feature": feature})


class ModelUnavailable(ErrandError):
    """A model cannot be loaded or is not known."""

    reason = Reason.MODEL_UNAVAILABLE

    def __init__(self, message: str, *, model: str) -> None:
        super().__init__(message, {"model": model})


class EffectUnsettled(ErrandError):
    """A tool call's outcome is not known and a person must settle it."""

    reason = Reason.EFFECT_UNSETTLED

    def __init__(self, message: str, *, effect_id: str) -> None:
        super().__init__(message, {"effect_id": effect_id})


class Internal(ErrandError):
    """A fault of ours; what happened is in the logs under the request id."""

    reason = Reason.INTERNAL


def _all_classes(base: type[ErrandError]) -> list[type[ErrandError]]:
    return [base, *(found for child in base.__subclasses__() for found in _all_classes(child))]


def from_reason(reason: Reason, message: str, metadata: Mapping[str, str]) -> ErrandError:
    """The error of that reason, as it was raised in another process."""
    matching = (kind for kind in _all_classes(ErrandError) if "reason" in vars(kind) and kind.reason is reason)
    kind = next((found for found in matching if found is not ErrandError), Internal)
    error = kind.__new__(kind)
    ErrandError.__init__(error, message, metadata)
    if isinstance(error, Throttled):
        error.retry_after_seconds = float(metadata.get("retry_after_seconds", 1.0))
    if isinstance(error, Unavailable):
        error.dependency = metadata.get("dependency", "")
    return error
