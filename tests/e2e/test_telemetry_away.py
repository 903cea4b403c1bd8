"""MLflow dies under load: no request notices, memory stays, and the traces come when it is back."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.e2e.conftest import Suite
from tests.e2e.traces import assert_complete, assert_whole, is_up, traces_of, untold_steps

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

REQUESTS = 40
# Inference grows with its cache of attention, whatever it tells.
SERVICES = ("gateway", "agent", "rag", "tools")


def _memory(suite: Suite) -> dict[str, int]:
    """Resident bytes by service."""
    processes = suite.status()
    return {name: psutil.Process(int(processes[name]["pid"])).memory_info().rss for name in SERVICES}


def _until_up(suite: Suite) -> None:
    until = time.monotonic() + 150
    while not is_up(suite) and time.monotonic() < until:
        time.sleep(0.5)
    assert is_up(suite)


def _dropped(suite: Suite) -> float:
    page = suite.http.get("/metrics").text
    line = next(line for line in page.splitlines() if line.startswith("telemetry_spans_dropped_total"))
    return float(line.split()[1])


def test_requests_go_on_while_mlflow_is_dead_and_their_traces_come_later(suite: Suite) -> None:
    _until_up(suite)
    suite.chat("What is 12 * 12?")
    before, dropped = _memory(suite), _dropped(suite)
    server = int(suite.status()["mlflow"]["pid"])
    children = psutil.Process(server).children(recursive=True)
    os.kill(server, signal.SIGSTOP)
    for child in children:
        child.suspend()
    try:
        # It hangs, which is worse than being away: connections are taken and never answered.
        with ThreadPoolExecutor(4) as pool:
            runs = list(pool.map(lambda _: suite.chat("What is 12 * 12?"), range(REQUESTS)))
    finally:
        for child in children:
            child.kill()
        os.kill(server, signal.SIGKILL)
    assert ["144" in run["answer"] for run in runs] == [True] * REQUESTS
    grown = {name: size - before[name] for name, size in _memory(suite).items()}
    assert all(size < 100 * 1024 * 1024 for size in grown.values()), grown
    _until_up(suite)
    run_ids = [run["run_id"] for run in runs]
    traces = traces_of(suite, run_ids, seconds=180, is_enough=lambda found: not any(map(untold_steps, found.values())))
    assert set(traces) == set(run_ids)
    for trace in traces.values():
        assert_whole(trace)
        assert_complete(trace)
    assert _dropped(suite) == dropped
