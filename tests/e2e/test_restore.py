"""The operations guide's backup and restore, its very commands, on the running suite."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import Suite, errand
from tests.observability.test_pages import blocks_under

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

GUIDE = "Backup and restore"


def _run(script: str, suite: Suite, folder: Path, *, key: str = "") -> str:
    """A block of the guide with this suite's folders; fails the test when a command fails."""
    port = suite.url.rpartition(":")[2]
    script = script.replace("/var/lib/errand-restored", str(folder / "restored"))
    script = script.replace("/var/lib/errand", str(suite.data_dir)).replace("/backup", str(folder / "backup"))
    script = script.replace("errand up --detach", f"errand up --detach --port {port}").replace(":8080", f":{port}")
    (folder / "backup").mkdir(exist_ok=True)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**suite.environment, "PATH": path, "ERRAND_API_KEY": key}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def scripts() -> tuple[str, str, str]:
    """Backup, restore, and copies without stopping, as the guide has them."""
    backup, restore, live, *_ = blocks_under(GUIDE, "bash")
    return backup, restore, live


@pytest.fixture
def undone(suite: Suite, tmp_path: Path) -> Iterator[None]:
    """The suite as it was, for the tests that come after."""
    yield
    restored = tmp_path / "restored"
    if (restored / "state.json").exists():
        errand("down", "--data-dir", str(restored))
    port = suite.url.rpartition(":")[2]
    if not (suite.data_dir / "state.json").exists():
        errand("up", "--detach", "--data-dir", str(suite.data_dir), "--port", port, env=suite.environment)


@pytest.mark.usefixtures("undone")
def test_a_backup_comes_back_whole_in_an_empty_folder(
    suite: Suite, tmp_path: Path, scripts: tuple[str, str, str]
) -> None:
    run = suite.chat("What is 12 * 12?")
    secret = {"name": "restored-secret", "value": "s3cr3t-of-the-backup"}
    assert suite.http.post("/api/v1/secrets", json=secret).status_code == 201
    backup, restore, _ = scripts
    _run(backup, suite, tmp_path)
    errand("down", "--data-dir", str(suite.data_dir))
    said = _run(restore, suite, tmp_path, key=suite.admin_key)
    assert re.search(r'"(valid|intact|ok)": ?true', said), said[-500:]
    with httpx.Client(base_url=suite.url, headers={"X-API-Key": suite.admin_key}, timeout=60) as client:
        assert client.get(f"/api/v1/runs/{run['run_id']}").json()["answer"] == run["answer"]
        names = [item["name"] for item in client.get("/api/v1/secrets").json()["items"]]
        assert "restored-secret" in names
        assert "144" in client.post("/api/v1/chat", json={"message": "What is 12 * 12?"}).json()["answer"]


def test_databases_are_copied_whole_while_they_are_written(
    suite: Suite, tmp_path: Path, scripts: tuple[str, str, str]
) -> None:
    *_, live = scripts
    suite.wait_ready()
    said = _run(live, suite, tmp_path)
    assert said.split() == ["ok"] * 5
    assert sorted(path.name for path in (tmp_path / "backup").iterdir()) == [
        "agent-dbos.db",
        "agent.db",
        "gateway.db",
        "rag.db",
        "tools.db",
    ]
