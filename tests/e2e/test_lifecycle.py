"""Processes die and come back; state stays; traces arrive."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.e2e.conftest import Suite, errand
from tests.e2e.traces import assert_whole, is_up, traces_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


def _until(condition: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return
        time.sleep(0.2)
    assert condition()


def _kill(suite: Suite, name: str) -> int:
    before = suite.status()[name]
    os.kill(int(before["pid"]), signal.SIGKILL)
    return int(before["restarts"])


@pytest.mark.parametrize("name", ["tools", "rag", "inference"])
def test_a_killed_service_degrades_clearly_and_comes_back(suite: Suite, name: str) -> None:
    restarts = _kill(suite, name)
    response = suite.http.post("/api/v1/chat", json={"message": "What is 3 + 4?"})
    assert response.status_code in (200, 503), response.text
    if response.status_code == 503:
        assert response.json()["code"] == "UNAVAILABLE"
    _until(lambda: suite.status()[name]["restarts"] > restarts and suite.status()[name]["state"] == "running", 60)
    suite.wait_ready()
    assert "7" in suite.chat("What is 3 + 4?")["answer"]


def test_runs_survive_the_death_of_the_agent(suite: Suite) -> None:
    """Killed in the middle of them: all end with their answers, and read as one story each."""
    _until(lambda: is_up(suite), 120)
    numbers = range(2, 42)
    bodies = [{"message": f"What is {number} * 7?"} for number in numbers]
    agent = suite.status()["agent"]
    with ThreadPoolExecutor(8) as pool:
        started = list(pool.map(lambda body: suite.http.post("/api/v1/runs", json=body).json()["id"], bodies))
    # At once: asking for the status takes longer than the last of the runs.
    os.kill(int(agent["pid"]), signal.SIGKILL)
    killed_at = datetime.now(UTC)
    _until(lambda: suite.status()["agent"]["restarts"] > agent["restarts"], 60)
    suite.wait_ready()
    for number, run in zip(numbers, started, strict=True):
        _until(lambda run=run: _run(suite, run)["state"] == "ended", 90)
        assert str(number * 7) in _run(suite, run)["answer"]
    # Spans of runs that had just ended may have been in the dead process's hands.
    resumed = [run for run in started if datetime.fromisoformat(_run(suite, run)["ended_at"]) > killed_at]
    assert resumed
    traces = traces_of(suite, resumed)
    assert set(traces) == set(resumed)
    for trace in traces.values():
        assert_whole(trace, of_others=False)


def _run(suite: Suite, run_id: str) -> dict[str, Any]:
    run: dict[str, Any] = suite.http.get(f"/api/v1/runs/{run_id}").raise_for_status().json()
    return run


def test_state_survives_a_stop_and_a_start(suite: Suite) -> None:
    run = suite.chat("What is 8 * 8?")
    port = suite.url.rpartition(":")[2]
    errand("down", "--data-dir", str(suite.data_dir))
    with pytest.raises(AssertionError, match="errand up"):
        errand("status", "--data-dir", str(suite.data_dir))
    options = ("--detach", "--json", "--data-dir", str(suite.data_dir), "--port", port)
    errand("up", *options, env=suite.environment)
    again = suite.http.get(f"/api/v1/runs/{run['run_id']}").json()
    assert again["answer"] == run["answer"]


def test_a_second_start_in_the_same_folder_is_refused(suite: Suite) -> None:
    with pytest.raises(AssertionError, match=r"runs in .* already"):
        errand("up", "--detach", "--data-dir", str(suite.data_dir))
