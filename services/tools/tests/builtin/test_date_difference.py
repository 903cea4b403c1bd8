"""Dates as people write them."""

from datetime import date

import pytest
from errand_tools.builtin import Services
from errand_tools.builtin.date_difference import TOOL, parse_date
from errand_tools.domain.tools import CallContext, ToolFailed

TODAY = date(2026, 11, 21)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-03-03", date(2026, 3, 3)),
        ("2026-03-03T10:00:00Z", date(2026, 3, 3)),
        ("2026/1/5", date(2026, 1, 5)),
        ("20260105", date(2026, 1, 5)),
        ("March 3, 2026", date(2026, 3, 3)),
        ("march 3 2026", date(2026, 3, 3)),
        ("Mar. 3, 2026", date(2026, 3, 3)),
        ("3 March 2026", date(2026, 3, 3)),
        ("3rd of March 2026", date(2026, 3, 3)),
        ("the 4th of July 2026", date(2026, 7, 4)),
        ("Sept 5 2026", date(2026, 9, 5)),
        ("Tuesday, March 3, 2026", date(2026, 3, 3)),
        ("Mar 3", date(2026, 3, 3)),
        ("25/12/2026", date(2026, 12, 25)),
        ("12/25/2026", date(2026, 12, 25)),
        ("03.03.2026", date(2026, 3, 3)),
        ("today", date(2026, 11, 21)),
        ("Now", date(2026, 11, 21)),
        ("tomorrow", date(2026, 11, 22)),
        ("yesterday", date(2026, 11, 20)),
        ("February 29, 2028", date(2028, 2, 29)),
    ],
)
def test_date(text: str, meant: date) -> None:
    assert parse_date(text, TODAY) == meant


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("03/04/2026", "could mean two dates"),
        ("2026-02-30", "no date of the calendar"),
        ("February 29, 2026", "no date of the calendar"),
        ("Smarch 3, 2026", "cannot be read as a date; write it as YYYY-MM-DD"),
        ("", "cannot be read"),
        ("0000-01-01", "no date"),
        ("9" * 5000, "cannot be read"),
    ],
)
def test_wrong_date(text: str, words: str) -> None:
    with pytest.raises(ToolFailed) as failed:
        parse_date(text, TODAY)
    assert words in failed.value.message


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [
        ("2026-01-01", "2026-01-13", 12),
        ("March 3, 2026", "3 March 2026", 0),
        ("2026-12-25", "2026-12-01", -24),
        ("2023-12-31", "2024-12-31", 366),
    ],
)
async def test_days(services: Services, context: CallContext, start: str, end: str, days: int) -> None:
    runner = TOOL.build(services)
    assert await runner.run({"start_date": start, "end_date": end}, context) == {"days": days}
