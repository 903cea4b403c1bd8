"""Runs promtool, which the alert tests cannot do without, and finds Prometheus itself."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from charts.observability.table import PROJECT

FILES = PROJECT / "charts" / "errand" / "files"


def binary(name: str) -> str:
    """Path of `promtool` or `prometheus`; fails the test, never skips it, when it is missing."""
    unpacked = PROJECT / ".cache" / "prometheus" / "usr" / "bin" / name
    found = shutil.which(name) or (str(unpacked) if unpacked.exists() else "")
    if not found:
        pytest.fail(f"{name} is missing: run `make {unpacked.parent.relative_to(PROJECT)}/promtool`.")
    return found


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What promtool says."""
    command = [binary("promtool"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
