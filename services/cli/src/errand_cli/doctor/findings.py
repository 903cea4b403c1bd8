"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """A check's result; `cure` says what to do and is empty when all is well."""

    check: str
    level: Level
    detail: str
    cure: str = ""


def ok(check: str, detail: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, detail)


def note(check: str, detail: str, cure: str) -> Finding:
    """Works, but should be looked at."""
    return Finding(check, Level.NOTE, detail, cure)


def wrong(check: str, detail: str, cure: str) -> Finding:
    """Does not work, or will not for long."""
    return Finding(check, Level.WRONG, detail, cure)


def bounded(check: str, amount: float, *, least: float, better: float, shown: str, cure: str) -> Finding:
    """Wrong below `least`, a note below `better`."""
    if amount < least:
        return wrong(check, shown, cure)
    return note(check, shown, cure) if amount < better else ok(check, shown)
