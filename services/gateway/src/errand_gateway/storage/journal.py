"""A file of the records that are not in the database yet: a process that is killed loses none of them."""

import contextlib
import dataclasses
import fcntl
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson
import structlog
from errand_common.db import new_id

from errand_gateway.domain.records import AuditEvent, Record, UsageRecord

_log = structlog.get_logger(__name__)
_MODE: Final = 0o600
_LOCK: Final = ".lock"
_SEGMENT: Final = ".jsonl"


class FileJournal:
    """RecordJournal in a folder; each process has files of its own there and a lock that dies with it.

    A line is handed to the system before its request is answered, so it outlives the process, though not
    a machine that loses its power in the seconds before the system writes it to disk.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._name = new_id("gw")
        self._lock = _locked(folder / f"{self._name}{_LOCK}")
        self._number = 0
        self._sealed: list[Path] = []
        self._path, self._file = self._open()

    def append(self, record: Record) -> None:
        """Keeps a record until its segment is dropped."""
        audit, usage = record
        os.write(self._file, orjson.dumps([_values(audit), _values(usage) if usage else None]) + b"\n")

    def seal(self) -> None:
        """Ends the segment; what follows belongs to the next one."""
        os.close(self._file)
        self._sealed.append(self._path)
        self._path, self._file = self._open()

    def drop_sealed(self) -> None:
        """Forgets all sealed segments: their records are stored."""
        for path in self._sealed:
            path.unlink(missing_ok=True)
        self._sealed.clear()

    def left_behind(self) -> Iterator[list[Record]]:
        """Records of processes that have died, a segment at a time; each is forgotten once the next is asked for."""
        for lock in sorted(self._folder.glob(f"*{_LOCK}")):
            if lock.stem == self._name or (owner := _lock_of_the_dead(lock)) is None:
                continue
            for path in sorted(self._folder.glob(f"{lock.stem}-*{_SEGMENT}")):
                yield _read(path)
                path.unlink()
            lock.unlink()
            os.close(owner)

    def close(self) -> None:
        """Ends the journal; a segment that was written to stays for the next process."""
        os.close(self._file)
        if self._path.stat().st_size == 0:
            self._path.unlink()
        if not any(self._folder.glob(f"{self._name}-*{_SEGMENT}")):
            (self._folder / f"{self._name}{_LOCK}").unlink()
        os.close(self._lock)

    def _open(self) -> tuple[Path, int]:
        self._number += 1
        path = self._folder / f"{self._name}-{self._number:012d}{_SEGMENT}"
        return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _MODE)


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, _MODE)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _lock_of_the_dead(path: Path) -> int | None:
    """The lock of a process that has died, held from now on; None while it lives, or another has taken over."""
    with contextlib.suppress(OSError):
        return _locked(path) if path.exists() else None
    return None


def _values(record: AuditEvent | UsageRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}


def _read(path: Path) -> list[Record]:
    records = []
    for line in path.read_bytes().splitlines():
        try:
            audit, usage = orjson.loads(line)
            records.append((_made(AuditEvent, audit), _made(UsageRecord, usage) if usage else None))
        except (ValueError, TypeError, KeyError):
            # The last line of a process that was killed while it wrote, or of a version with other fields.
            _log.warning("record_not_recovered", file=path.name)
    return records


def _made(kind: type[Any], values: Mapping[str, Any]) -> Any:
    moments = {field.name for field in dataclasses.fields(kind) if field.type is datetime}
    return kind(**{name: datetime.fromisoformat(value) if name in moments else value for name, value in values.items()})
