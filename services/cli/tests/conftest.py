"""A real gateway before fake services, and the command line as a user calls it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from errand_common.testing.keys import TestKeys
from errand_gateway.testing.backend import fake_backend
from errand_gateway.testing.gateway import RunningGateway, migrated_template, running_gateway, test_settings

Errand = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
async def gateway(tmp_path: Path, keys: TestKeys) -> AsyncIterator[RunningGateway]:
    """A gateway on loopback."""
    template = migrated_template(tmp_path / "template")
    async with (
        fake_backend(keys) as backend,
        running_gateway(test_settings(tmp_path / "gateway", backend, keys), backend, template=template) as running,
    ):
        yield running


@pytest.fixture
def errand() -> Errand:
    """Runs `errand …` in a process of its own."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "errand_cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    return run
