"""Runs promtool, which the alert tests cannot do without."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from charts.observability.table import PROJECT

FILES = PROJECT / "charts" / "errand" / "files"


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What promtool says; fails the test, never skips it, when there is no promtool."""
    unpacked = PROJECT / ".cache" / "prometheus" / "usr" / "bin" / "promtool"
    binary = shutil.which("promtool") or (str(unpacked) if unpacked.exists() else "")
    if not binary:
        pytest.fail(f"promtool is missing: run `make {unpacked.relative_to(PROJECT)}`, or install prometheus.")
    return subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True, timeout=100, check=False)
