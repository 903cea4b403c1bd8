"""The time in a city, a country or a time zone."""

import re
import unicodedata
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from errand_tools.builtin.base import BuiltinTool, computed, one_text
from errand_tools.builtin.places import ZONE_OF_PLACE
from errand_tools.domain.sanitise import clean_text
from errand_tools.domain.tools import JsonObject, ToolFailed

_OFFSET = re.compile(r"^(?:utc|gmt)\s*([+-])\s*(\d{1,2})(?::?([0-5]\d))?$")
_AREAS = frozenset(
    (
        "Africa",
        "America",
        "Antarctica",
        "Arctic",
        "Asia",
        "Atlantic",
        "Australia",
        "Europe",
        "Indian",
        "Pacific",
    )
)


def time_in(location: str, now: datetime) -> JsonObject:
    """Time, date and zone there. Raises ToolFailed, naming the cure, for an unknown place."""
    shown = " ".join(location.split())[:80]
    name, zone = _zone(shown)
    return {
        "location": clean_text(shown) or name,
        "time": now.astimezone(zone).strftime("%Y-%m-%d %H:%M"),
        "timezone": name,
    }


@cache
def zones() -> dict[str, str]:
    """Zones by their full name, by their city's name, and by what people call places."""
    known: dict[str, str] = {}
    for zone in sorted(available_timezones()):
        known[_plain(zone)] = zone
        area, _, rest = zone.partition("/")
        if area in _AREAS and rest:
            known.setdefault(_plain(rest.rsplit("/", maxsplit=1)[-1]), zone)
    known.update({_plain(place): zone for place, zone in ZONE_OF_PLACE.items()})
    return known


def _plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.replace("_", " ").lower())
    letters = "".join(char for char in decomposed if not unicodedata.combining(char))
    return " ".join(letters.strip(" .?!").split())


def _zone(location: str) -> tuple[str, tzinfo]:
    plain = _plain(location)
    if not plain:
        raise ToolFailed("The location is empty; name a city such as Tokyo or a time zone.")
    if match := _OFFSET.match(plain):
        return _offset(match)
    for spelling in _spellings(plain):
        if zone := zones().get(spelling):
            return zone, UTC if zone == "UTC" else ZoneInfo(zone)
    raise ToolFailed(
        f"The location '{location}' is not known; name a large city nearby or an IANA time zone such as Europe/Paris."
    )


def _spellings(plain: str) -> list[str]:
    """'the city of Kyoto, Japan' is Kyoto, or at least Japan."""
    short = re.sub(r"^(?:in |the )*(?:city of |capital of )?", "", plain)
    short = re.sub(r"(?: local)?(?: standard| daylight)?(?: time(?: ?zone)?)?$", "", short)
    parts = [part.strip() for part in short.split(",")]
    return [plain, short, " ".join(parts), *parts]


def _offset(match: re.Match[str]) -> tuple[str, tzinfo]:
    hours, minutes = int(match[2]), int(match[3] or 0)
    if hours > 14:
        raise ToolFailed("Offsets from UTC go from -14:00 to +14:00.")
    delta = timedelta(hours=hours, minutes=minutes)
    name = f"UTC{match[1]}{hours:02}:{minutes:02}"
    return name, timezone(delta if match[1] == "+" else -delta)


def _run(arguments: JsonObject) -> JsonObject:
    return time_in(arguments["location"], datetime.now(UTC))


TOOL = BuiltinTool(
    name="current_time",
    description="Tell the current time and date in a city or time zone.",
    parameters=one_text("location", "City or time zone"),
    build=computed(_run, inline_characters=100),
    timeout_ms=5_000,
)
