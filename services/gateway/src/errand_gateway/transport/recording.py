"""What is written down of a request once it has ended: figures, usage, audit."""

import time
from functools import lru_cache
from typing import Final

from errand_common.db import new_id, utc_now
from errand_common.errors import ERROR_TABLE
from errand_common.telemetry.metrics import counter, exemplar, from_zero, histogram
from prometheus_client import Counter, Histogram
from starlette.types import Scope

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.records import AuditEvent, Recorder, UsageRecord
from errand_gateway.transport.context import RequestContext

REQUESTS: Final = counter(
    "http_requests_total", "HTTP requests answered, by route and status", "method", "route", "status"
)
DURATION: Final = histogram(
    "http_request_duration_seconds", "Time from a request's arrival to its answer's end", "route"
)
RECORDS_DROPPED: Final = counter(
    "gateway_records_dropped_total", "Usage and audit records lost because the buffer was full"
)
RECORDS_RECOVERED: Final = counter(
    "gateway_records_recovered_total", "Usage and audit records of a killed process that its successor wrote down"
)

_PAID: Final = frozenset({Permission.RUNS_CREATE.value, Permission.MODELS_USE.value})
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_CLIENT_GONE: Final = 499
_FAULTS: Final = sorted({str(status.http) for status in ERROR_TABLE.values() if status.http >= 500} - {"501"})


# Looking a series up by its labels costs more than counting; their number is bounded by the routes.
@lru_cache(maxsize=4096)
def _requests(method: str, route: str, status: int) -> Counter:
    """The series; those of the route's faults are there from its first request, so that a first fault counts too."""
    from_zero(REQUESTS, [method], [route], _FAULTS)
    return REQUESTS.labels(method, route, str(status))


@lru_cache(maxsize=1024)
def _duration(route: str) -> Histogram:
    return DURATION.labels(route)


def record_request(recorder: Recorder, scope: Scope, context: RequestContext, status: int) -> None:
    """Counts the request and, when its caller is known, writes it down."""
    seconds = time.monotonic() - context.started
    # The path's template: a label of real paths would have no bound.
    route = getattr(scope.get("route"), "path", "none")
    method = scope["method"] if scope["method"] in _METHODS else "other"
    status = status or _CLIENT_GONE
    _requests(method, route, status).inc()
    _duration(route).observe(seconds, exemplar())
    context.settle()
    if context.principal is not None:
        recorder.record(_audit(scope, context, status), _usage(context, status, seconds * 1000))


def _audit(scope: Scope, context: RequestContext, status: int) -> AuditEvent:
    principal = context.principal
    return AuditEvent(
        tenant_id=principal.tenant_id if principal else "",
        at=utc_now(),
        principal_id=principal.id if principal else "",
        action=context.action,
        method=scope["method"],
        path=scope["path"][:512].replace("\x00", ""),
        status=status,
        request_id=context.request_id,
    )


def _usage(context: RequestContext, status: int, milliseconds: float) -> UsageRecord | None:
    principal = context.principal
    if principal is None or not (context.action in _PAID or context.prompt_tokens):
        return None
    return UsageRecord(
        id=new_id("use"),
        tenant_id=principal.tenant_id,
        key_id=principal.id,
        request_id=context.request_id,
        action=context.action,
        agent=context.agent[:128],
        model=context.model[:256],
        run_id=context.run_id,
        status=status,
        stop_reason=context.stop_reason,
        prompt_tokens=context.prompt_tokens,
        completion_tokens=context.completion_tokens,
        cached_tokens=context.cached_tokens,
        duration_ms=round(milliseconds, 3),
        created_at=utc_now(),
        project=context.project,
        cost_micros=context.cost_micros,
    )
