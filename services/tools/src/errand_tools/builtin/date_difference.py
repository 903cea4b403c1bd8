"""Days between two dates, written as people write dates."""

import re
from datetime import UTC, date, datetime, timedelta

from errand_tools.builtin.base import BuiltinTool, computed
from errand_tools.domain.tools import JsonObject, ToolFailed

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan", "february feb", "march mar", "april apr", "may", "june jun", "july jul",
            "august aug", "september sep sept", "october oct", "november nov", "december dec",
        ),
        start=1,
    )
    for name in names.split()
}  # fmt: skip
_RELATIVE = {"today": 0, "now": 0, "tomorrow": 1, "yesterday": -1}
_ISO = re.compile(r"^(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[T ].*)?$")
_COMPACT = re.compile(r"^(\d{4})(\d{2})(\d{2})$")
_DAY_FIRST = re.compile(r"^(\d{1,2})(?:st|nd|rd|th)?(?: of)? ([a-z]+)(?: (\d{4}))?$")
_MONTH_FIRST = re.compile(r"^([a-z]+) (\d{1,2})(?:st|nd|rd|th)?(?: (\d{4}))?$")
_NUMERIC = re.compile(r"^(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})$")
_WEEKDAY = re.compile(r"^(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?\s+")


def parse_date(text: str, today: date) -> date:
    """The date meant. Raises ToolFailed when none is, or when two could be."""
    plain = " ".join(re.sub(r"(?<=[a-z])\.|,", " ", text.lower()).split())[:80].removeprefix("the ")
    plain = _WEEKDAY.sub("", plain)
    if plain in _RELATIVE:
        return today + timedelta(days=_RELATIVE[plain])
    if match := _ISO.match(plain.upper()) or _COMPACT.match(plain):
        return _date(text, *(int(part) for part in match.groups()))
    if match := _NUMERIC.match(plain):
        return _from_numbers(text, int(match[1]), int(match[2]), int(match[3]))
    if match := _DAY_FIRST.match(plain):
        return _named(text, match[2], int(match[1]), int(match[3] or today.year))
    if match := _MONTH_FIRST.match(plain):
        return _named(text, match[1], int(match[2]), int(match[3] or today.year))
    raise _unreadable(text)


def _from_numbers(text: str, first: int, second: int, year: int) -> date:
    if first <= 12 and second <= 12 and first != second:
        raise ToolFailed(
            f"'{text[:40]}' could mean two dates; write it as {year}-{first:02}-{second:02} or"
            f" {year}-{second:02}-{first:02}."
        )
    month, day = (second, first) if first > 12 else (first, second)
    return _date(text, year, month, day)


def _named(text: str, month: str, day: int, year: int) -> date:
    if month not in _MONTHS:
        raise _unreadable(text)
    return _date(text, year, _MONTHS[month], day)


def _date(text: str, year: int, month: int, day: int) -> date:
    try:
        return date(year, month, day)
    except ValueError:
        raise ToolFailed(f"'{text[:40]}' is no date of the calendar.") from None


def _unreadable(text: str) -> ToolFailed:
    return ToolFailed(f"'{text[:40]}' cannot be read as a date; write it as YYYY-MM-DD.")


def _run(arguments: JsonObject) -> JsonObject:
    today = datetime.now(UTC).date()
    start = parse_date(arguments["start_date"], today)
    end = parse_date(arguments["end_date"], today)
    return {"days": (end - start).days}


TOOL = BuiltinTool(
    name="date_difference",
    description="Count the days between two dates.",
    parameters={
        "type": "object",
        "properties": {
            "end_date": {"type": "string", "description": "The later date"},
            "start_date": {"type": "string", "description": "The first date"},
        },
        "required": ["start_date", "end_date"],
        "additionalProperties": False,
    },
    build=computed(_run, inline_characters=100),
    timeout_ms=2_000,
)
