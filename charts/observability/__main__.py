"""Writes what is made from the metric table; `--check` fails when a file is stale."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from charts.observability.table import PROJECT, page

METRICS_PAGE = PROJECT / "docs" / "operations" / "metrics.md"


def outputs() -> dict[Path, str]:
    """Every file with what it must hold."""
    return {METRICS_PAGE: page()}


def stale() -> list[Path]:
    """Files that are missing or do not hold what the code makes."""
    return [path for path, text in outputs().items() if not path.exists() or path.read_text(encoding="utf-8") != text]


def main() -> int:
    """Exit status 1 when `--check` finds a stale file."""
    parser = argparse.ArgumentParser(prog="python -m charts.observability", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is stale")
    if parser.parse_args().check:
        for path in (found := stale()):
            sys.stderr.write(f"{path.relative_to(PROJECT)} is stale; run `make docs`.\n")
        return int(bool(found))
    for path, text in outputs().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
