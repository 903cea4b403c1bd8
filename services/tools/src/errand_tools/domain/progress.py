"""What a running tool tells of itself: its newest word, cleaned and at most so often."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from typing import Any

from errand_tools.domain.sanitise import clean_text

MAX_CHARACTERS = 300
# A person reads no faster.
_APART_SECONDS = 0.5
# A tool that tells nothing is known to be running by this.
_SILENT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a tool is, in its own words and unit; a total of 0 is not known. Milliseconds since the call began."""

    message: str = ""
    done: float = 0.0
    total: float = 0.0
    elapsed_ms: float = 0.0


Tell = Callable[[Progress], None]


def unheard(_: Progress) -> None:
    """Nobody listens."""


class ProgressFeed:
    """Keeps a tool's newest word for one reader: however fast it tells, one is held and few are sent on."""

    def __init__(self, *, apart_seconds: float = _APART_SECONDS, silent_seconds: float = _SILENT_SECONDS) -> None:
        self._apart, self._silent = apart_seconds, silent_seconds
        self._newest: Progress | None = None

    def tell(self, progress: Progress) -> None:
        """Takes the place of what was told before and not read yet."""
        # Cut before it is kept; a character that is removed makes no room for more.
        self._newest = replace(progress, message=progress.message[:MAX_CHARACTERS])

    async def until(self, work: asyncio.Future[Any]) -> AsyncGenerator[Progress]:
        """What is told until the work is done."""
        began = told = time.monotonic()
        while not (await asyncio.wait({work}, timeout=self._apart))[0]:
            now = time.monotonic()
            if self._newest is None and now - told < self._silent:
                continue
            newest, self._newest, told = self._newest or Progress(), None, now
            yield _cleaned(newest, 1000 * (now - began))


def _cleaned(progress: Progress, elapsed_ms: float) -> Progress:
    return Progress(
        " ".join(clean_text(progress.message).split()),
        _amount(progress.done),
        _amount(progress.total),
        elapsed_ms,
    )


def _amount(value: float) -> float:
    return float(value) if math.isfinite(value) and value > 0 else 0.0
