"""Keeps the remembered prefixes in a file between two lives of the service."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import structlog
from errand_common.errors import ErrandError

from errand_inference.domain.prefixes import SeenPrefixes

_log = structlog.get_logger(__name__)


class PrefixFile:
    """A file that only the service may read: it holds agents' instructions. Losing it costs warmth, nothing else."""

    def __init__(self, path: Path, most: int) -> None:
        self._path = path
        self.seen = SeenPrefixes(most)

    def load(self) -> None:
        """Reads the file; one that is missing or damaged is as good as empty."""
        if not self.seen.most:
            self._path.unlink(missing_ok=True)
            return
        try:
            self.seen.load(json.loads(self._path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, ErrandError):
            _log.warning("remembered prefixes cannot be read; starting without them")

    async def save(self) -> None:
        """Writes what changed."""
        if self.seen.has_changed:
            await asyncio.to_thread(self._write, self.seen.dump())

    def _write(self, entries: list[dict[str, str]]) -> None:
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
