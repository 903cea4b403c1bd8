"""What requests used, row by row and added up."""

import csv
import io
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from errand_common.db import utc_now
from errand_common.errors import InvalidArgument
from errand_common.principal import Principal
from fastapi import Depends, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, Field

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.records import UsageGroup, UsageRecord, UsageTotals
from errand_gateway.domain.resources import Page
from errand_gateway.transport.access import Requires, guarded_router
from errand_gateway.transport.fields import PageDep
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/api/v1", tags=["usage"])

Reader = Annotated[Principal, Depends(Requires(Permission.USAGE_READ))]
_FIGURES: Final = tuple(name for name in UsageTotals.__slots__ if name != "group")
_LONGEST: Final = timedelta(days=400)


class UsageReport(BaseModel):
    """Totals by group, the dearest first."""

    since: datetime
    until: datetime
    rows: Sequence[UsageTotals] = Field(description="At most 10,000.")


@router.get("/usage", summary="List usage")
async def list_usage(
    page: PageDep,
    services: ServicesDep,
    caller: Reader,
    since: Annotated[AwareDatetime | None, Query(description="Rows from then on.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Rows before then.")] = None,
) -> Page[UsageRecord]:
    """One row for each request that cost something, newest first."""
    return await services.records.list_usage(caller.tenant_id, page, since=since, until=until)


@router.get(
    "/usage/report",
    summary="Report usage",
    response_model=UsageReport,
    responses={
        200: {
            "description": "The report; CSV with `Accept: text/csv`.",
            "content": {
                "text/csv": {"schema": {"type": "string"}, "example": "project,requests,cost_micros\nshop,12,3400\n"}
            },
        }
    },
)
async def report_usage(
    request: Request,
    services: ServicesDep,
    caller: Reader,
    by: Annotated[list[UsageGroup], Query(min_length=1, max_length=5, description="What to add up by.")],
    since: Annotated[AwareDatetime | None, Query(description="From then on; left out, the last 30 days.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Before then; left out, now.")] = None,
) -> Any:
    """Requests, tokens and cost by project, agent, model, key or day; days are UTC's."""
    until = until or utc_now()
    since = since or until - timedelta(days=30)
    if not timedelta(0) < until - since <= _LONGEST:
        raise InvalidArgument("since must be before until, and at most 400 days before", field="since")
    groups = list(dict.fromkeys(by))
    rows = await services.records.report_usage(caller.tenant_id, groups, since=since, until=until)
    if "text/csv" in request.headers.get("accept", ""):
        return Response(_csv(groups, rows), media_type="text/csv")
    return UsageReport(since=since, until=until, rows=rows)


def _csv(groups: Sequence[UsageGroup], rows: Sequence[UsageTotals]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*(group.value for group in groups), *_FIGURES])
    for row in rows:
        names = [_harmless(row.group[group.value]) for group in groups]
        writer.writerow([*names, *(getattr(row, name) for name in _FIGURES)])
    return text.getvalue()


def _harmless(cell: str) -> str:
    # Spreadsheets run what begins with these as a formula.
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@")) else cell
