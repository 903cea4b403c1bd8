"""The commands against a gateway that really listens."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from errand_gateway.testing.gateway import ADMIN_KEY, RunningGateway

Errand = Callable[..., subprocess.CompletedProcess[str]]


async def test_doctor_and_run_show(gateway: RunningGateway, errand: Errand) -> None:
    access = ("--url", gateway.url, "--key", ADMIN_KEY)
    healthy = await asyncio.to_thread(errand, "doctor", *access, "--json")
    assert healthy.returncode == 0, healthy.stdout + healthy.stderr
    checks = {item["check"]: item["level"] for item in json.loads(healthy.stdout)["findings"]}
    assert checks["gateway"] == checks["key"] == checks["clock"] == checks["gateway to agent"] == "ok"

    stranger = await asyncio.to_thread(errand, "doctor", "--url", gateway.url, "--key", "errand_ab_cd")
    assert stranger.returncode == 1
    assert "errand keys create" in stranger.stdout

    chat = (await gateway.http.post("/api/v1/chat", json={"message": "What?"})).json()
    shown = await asyncio.to_thread(errand, "run", "show", chat["run_id"], *access)
    assert shown.returncode == 0, shown.stderr
    assert "> What?" in shown.stdout
    assert chat["answer"] in shown.stdout
    as_json = await asyncio.to_thread(errand, "run", "show", chat["run_id"], *access, "--json")
    assert json.loads(as_json.stdout)["id"] == chat["run_id"]
    missing = await asyncio.to_thread(errand, "run", "show", "run_0", *access)
    assert (missing.returncode, missing.stderr) == (1, "errand: NOT_FOUND: There is no run 'run_0'.\n")


def test_every_command_has_help(errand: Errand) -> None:
    shown = errand("--help").stdout
    for name in ("up", "down", "status", "logs", "chat", "ingest", "search", "trace", "doctor", "train", "eval", "run"):
        assert f" {name} " in shown


def test_doctor_without_a_suite_says_how_to_start_one(errand: Errand, tmp_path: Path) -> None:
    done = errand("doctor", "--data-dir", str(tmp_path / "none"), "--json")
    findings = {item["check"]: item for item in json.loads(done.stdout)["findings"]}
    assert done.returncode == 1
    assert findings["suite"]["level"] == "wrong"
    assert findings["suite"]["cure"] == "`errand up`"
    assert findings["versions"]["level"] == "ok"


def test_a_gateway_that_is_away_is_one_line(errand: Errand, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("hello")
    away = ("--url", "http://127.0.0.1:9", "--key", "errand_ab_cd")
    done = errand("ingest", str(file), *away)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("errand: The gateway at http://127.0.0.1:9 cannot be reached (")
    assert done.stderr.count("\n") == 1


def test_the_key_of_the_suite_here_is_not_sent_elsewhere(errand: Errand) -> None:
    done = errand("keys", "create", "ci", "--url", "http://127.0.0.1:9")
    assert (done.returncode, done.stderr) == (
        1,
        "errand: http://127.0.0.1:9 needs a key: set ERRAND_API_KEY or give --key.\n",
    )
