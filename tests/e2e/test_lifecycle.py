"""Processes die and come back; state stays; traces arrive."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import httpx
import pytest

from tests.e2e.conftest import Suite, errand

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


def test_traces_of_a_run_are_in_mlflow(suite: Suite) -> None:
    run = suite.chat("What is 21 + 21?")

    def arrived() -> bool:
        try:
            body = {
                "locations": [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}],
                "max_results": 100,
            }
            found = httpx.post(f"{suite.mlflow_url}/api/3.0/mlflow/traces/search", json=body, timeout=10)
            return found.is_success and run["conversation_id"] in found.text
        except httpx.HTTPError:
            return False

    _until(arrived, 120)


def test_state_survives_a_stop_and_a_start(suite: Suite) -> None:
    run = suite.chat("What is 8 * 8?")
    port = suite.url.rpartition(":")[2]
    errand("down", "--data-dir", str(suite.data_dir))
    with pytest.raises(AssertionError, match="errand up"):
        errand("status", "--data-dir", str(suite.data_dir))
    errand("up", "--detach", "--json", "--data-dir", str(suite.data_dir), "--port", port)
    again = suite.http.get(f"/api/v1/runs/{run['run_id']}").json()
    assert again["answer"] == run["answer"]


def test_a_second_start_in_the_same_folder_is_refused(suite: Suite) -> None:
    with pytest.raises(AssertionError, match=r"runs in .* already"):
        errand("up", "--detach", "--data-dir", str(suite.data_dir))
