"""Writes what is made from the metric table; `--check` fails when a file is stale."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from charts.observability import slo, table
from charts.observability.alerts import alert_groups
from charts.observability.dashboards import DASHBOARDS, document
from charts.observability.table import PROJECT

_PAGES = PROJECT / "docs" / "operations"
_FILES = PROJECT / "charts" / "errand" / "files"
_TABLE_BEGIN, _TABLE_END = "<!-- objectives: made by `make docs` -->\n", "<!-- end of objectives -->\n"


def outputs() -> dict[Path, str]:
    """Every file with what it must hold."""
    return {
        _PAGES / "metrics.md": table.page(),
        _PAGES / "slo.md": _objectives(),
        _FILES / "alerts.yaml": _rules(alert_groups()),
        _FILES / "recording-rules.yaml": _rules(slo.recording_groups()),
        **{_FILES / "dashboards" / f"{board.name}.json": document(board) for board in DASHBOARDS},
    }


def _objectives() -> str:
    """The page as written by hand, its table made anew."""
    before, _, rest = (_PAGES / "slo.md").read_text(encoding="utf-8").partition(_TABLE_BEGIN)
    return before + _TABLE_BEGIN + slo.page() + _TABLE_END + rest.partition(_TABLE_END)[2]


def _rules(groups: list[dict[str, object]]) -> str:
    head = "# Made by `make docs`; edit charts/observability.\n"
    return head + yaml.safe_dump({"groups": groups}, sort_keys=False, width=10_000, allow_unicode=True)


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
