"""What a model folder's files hold, as one hash.

Reading a gigabyte takes seconds: it is done once, not at each start.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path

_HASHED = {".json", ".safetensors", ".bin", ".model"}
# A file that is written to again at once may keep its time of change: only older ones are trusted.
_SETTLED_SECONDS = 2.0


def hash_folder(folder: Path) -> str:
    """SHA-256 over names and contents of a folder's files, hex."""
    digest = hashlib.sha256()
    for path in _files(folder):
        digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def remembered_hash(folder: Path, cache_dir: Path) -> str:
    """Like `hash_folder`, but files of the same sizes and times of change as at the last look are not read again."""
    record = cache_dir / "hashes" / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:24]}.json"
    seen = _seen(folder)
    if known := _recorded(record, seen):
        return known
    found = hash_folder(folder)
    settled = time.time_ns() - _SETTLED_SECONDS * 1e9
    if all(changed < settled for _, changed in seen.values()) and _seen(folder) == seen:
        _write(record, {"files": seen, "hash": found})
    return found


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix in _HASHED]


def _seen(folder: Path) -> dict[str, list[int]]:
    """Size and time of change of each file, nanoseconds, by name."""
    stats = ((path.relative_to(folder), path.stat()) for path in _files(folder))
    return {str(name): [stat.st_size, stat.st_mtime_ns] for name, stat in stats}


def _recorded(record: Path, seen: dict[str, list[int]]) -> str | None:
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        return str(known["hash"]) if known["files"] == seen else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(record: Path, content: object) -> None:
    """A cache that cannot be written to costs the next start its time, nothing else."""
    unfinished = record.with_suffix(f".{os.getpid()}.part")
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(content), encoding="utf-8")
        os.replace(unfinished, record)
    except OSError:
        # What cannot be written to cannot be cleaned either: a read-only file system refuses even what is not there.
        with suppress(OSError):
            unfinished.unlink()
