"""Times of places as people say them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from errand_tools.builtin.current_time import time_in
from errand_tools.builtin.places import ZONE_OF_PLACE
from errand_tools.domain.tools import ToolFailed

NOW = datetime(2026, 11, 21, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("location", "zone", "time"),
    [
        ("Tokyo", "Asia/Tokyo", "2026-11-21 13:05"),
        ("tokyo", "Asia/Tokyo", "2026-11-21 13:05"),
        ("Osaka, Japan", "Asia/Tokyo", "2026-11-21 13:05"),
        ("New York", "America/New_York", "2026-11-20 23:05"),
        ("NYC", "America/New_York", "2026-11-20 23:05"),
        ("San Francisco", "America/Los_Angeles", "2026-11-20 20:05"),
        ("UTC", "UTC", "2026-11-21 04:05"),
        ("GMT", "UTC", "2026-11-21 04:05"),
        ("utc+5:30", "UTC+05:30", "2026-11-21 09:35"),
        ("GMT-3", "UTC-03:00", "2026-11-21 01:05"),
        ("Europe/Paris", "Europe/Paris", "2026-11-21 05:05"),
        ("São Paulo", "America/Sao_Paulo", "2026-11-21 01:05"),
        ("sao paulo", "America/Sao_Paulo", "2026-11-21 01:05"),
        ("Zürich", "Europe/Zurich", "2026-11-21 05:05"),
        ("Germany", "Europe/Berlin", "2026-11-21 05:05"),
        ("the Netherlands", "Europe/Amsterdam", "2026-11-21 05:05"),
        ("Mumbai", "Asia/Kolkata", "2026-11-21 09:35"),
        ("Kathmandu", "Asia/Kathmandu", "2026-11-21 09:50"),
        ("EST", "America/New_York", "2026-11-20 23:05"),
        ("Eastern Standard Time", "America/New_York", "2026-11-20 23:05"),
        ("the city of Kyoto", "Asia/Tokyo", "2026-11-21 13:05"),
        ("Auckland", "Pacific/Auckland", "2026-11-21 17:05"),
        ("Washington, D.C.", "America/New_York", "2026-11-20 23:05"),
    ],
)
def test_place(location: str, zone: str, time: str) -> None:
    assert time_in(location, NOW) == {"location": location, "time": time, "timezone": zone}


def test_summer_time_is_kept() -> None:
    summer = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
    assert time_in("London", summer)["time"] == "2026-07-01 13:00"


@pytest.mark.parametrize("location", ["Atlantis", "../../etc/passwd", "", "  ", "\x00", "UTC+99"])
def test_unknown_place_names_the_cure(location: str) -> None:
    with pytest.raises(ToolFailed, match=r"(?s)(name a|Offsets)"):
        time_in(location, NOW)


def test_every_place_has_a_zone_that_exists() -> None:
    assert len(ZONE_OF_PLACE) >= 300
    for zone in set(ZONE_OF_PLACE.values()):
        ZoneInfo(zone)
