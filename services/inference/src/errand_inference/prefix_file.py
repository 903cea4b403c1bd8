"""Keeps the remembered prefixes in a file between two lives of the service."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from errand_common.errors import ErrandError

from errand_inference.domain.prefixes import Prefix, SeenPrefixes

_DAY_SECONDS = 86_400
_log = structlog.get_logger(__name__)


class PrefixFile:
    """A file that only the service may read: it holds agents' instructions. Losing it costs warmth, nothing else."""

    def __init__(self, path: Path, most: int, most_days: int, *, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock
        self.seen = SeenPrefixes(most, most_days)

    def note(self, prefix: Prefix) -> None:
        """Remembers a prefix that was just sent."""
        self.seen.note(prefix, self._today())

    def _today(self) -> int:
        return int(self._clock() // _DAY_SECONDS)

    def load(self) -> None:
        """Reads the file; one that is missing or damaged is as good as empty."""
        if not self.seen.most:
            self._path.unlink(missing_ok=True)
            return
        try:
            self.seen.load(json.loads(self._path.read_text(encoding="utf-8")), self._today())
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, ErrandError):
            _log.warning("remembered prefixes cannot be read; starting without them")

    async def save(self) -> None:
        """Writes what changed, without what is too old by now."""
        self.seen.forget_old(self._today())
        if self.seen.has_changed:
            await asyncio.to_thread(self._write, self.seen.dump())

    def _write(self, entries: list[dict[str, Any]]) -> None:
        unfinished = self._path.with_suffix(f".{os.getpid()}.part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(unfinished, "w", encoding="utf-8", opener=_private) as file:
                json.dump(entries, file)
            os.replace(unfinished, self._path)
        except OSError as error:
            _log.warning("remembered prefixes cannot be written", reason=error.strerror)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
