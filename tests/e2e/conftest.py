"""The real suite, started as a user starts it, with the bundled model."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from errand_common.testing.keys import free_port
from errand_inference.testing.provider import serving_provider

from tests.e2e.told import Told

DOLLARS_A_MILLION = 10
"""What the suite's tokens cost, read or written."""

ERRAND = [sys.executable, "-m", "errand_cli"]


@dataclass(frozen=True, slots=True)
class Suite:
    """A running suite and a client of its gateway."""

    url: str
    admin_key: str
    data_dir: Path
    target: str
    http: httpx.Client
    environment: dict[str, str]
    metrics: dict[str, str]
    """Where each service shows its figures: host and port by service."""

    @property
    def mlflow_url(self) -> str:
        """Where MLflow is now; each start of the suite finds it a free port."""
        state: dict[str, Any] = json.loads((self.data_dir / "state.json").read_text())
        return str(state["mlflow_url"])

    def chat(self, message: str, **more: Any) -> dict[str, Any]:
        """A chat's answer; fails the test on an error."""
        response = self.http.post("/api/v1/chat", json={"message": message, **more})
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    def status(self) -> dict[str, dict[str, Any]]:
        """`errand status --json` by service name."""
        shown = errand("status", "--json", "--data-dir", str(self.data_dir))
        return {service["name"]: service for service in json.loads(shown)["services"]}

    def wait_ready(self, seconds: float = 90) -> None:
        """Waits until the gateway says that everything works."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.http.get("/readyz").status_code == 200:
                return
            time.sleep(0.2)
        pytest.fail(f"not ready after {seconds} s: {self.http.get('/readyz').text}")


def errand(*arguments: str, timeout: float = 240, env: dict[str, str] | None = None) -> str:
    """Runs the command and gives what it printed; fails the test when it fails."""
    done = subprocess.run([*ERRAND, *arguments], capture_output=True, text=True, timeout=timeout, env=env, check=False)
    assert done.returncode == 0, f"{arguments}: {done.stderr[-2000:]}"
    return done.stdout


class Target(http.server.BaseHTTPRequestHandler):
    """What tenants' HTTP tools reach: one path answers, one hangs, one floods, one fails."""

    def do_GET(self) -> None:
        if self.path.startswith("/hang"):
            time.sleep(8)
        body = b'{"blob": "' + b"x" * 10_000_000 + b'"}' if self.path.startswith("/flood") else b'{"stock": 7}'
        self.send_response(500 if self.path.startswith("/fail") else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            return

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


# The bundled model is small: some digits it copies wrongly, so a port by chance would be a test by chance.
_TARGET_PORTS = (35603, 41234, 8000)


def _free_among(ports: Sequence[int]) -> int:
    """The first of the ports that nobody has."""
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    pytest.fail(f"all of these ports are taken: {ports}")


@contextmanager
def serving_target() -> Iterator[str]:
    """Address of the HTTP server that tools reach, until the end of the block."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", _free_among(_TARGET_PORTS)), Target)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def target() -> Iterator[str]:
    """Address of the HTTP server that tools reach."""
    with serving_target() as address:
        yield address


@pytest.fixture(scope="session")
def told() -> Iterator[Told]:
    """A model that says what tests want."""
    with serving_provider(Told()) as provider:
        yield provider


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory, target: str, told: Told) -> Iterator[Suite]:
    """One suite for the whole session."""
    with started(tmp_path_factory.mktemp("suite"), target, told.settings()) as running:
        yield running


@contextmanager
def started(folder: Path, target: str, more: Mapping[str, str] = MappingProxyType({})) -> Iterator[Suite]:
    """A suite whose tools may reach `target`, with more variables, until the end of the block."""
    port, own_port = target.rpartition(":")[2], free_port()
    metrics_ports = {name: free_port() for name in ("agent", "inference", "rag", "tools")}
    environment = {
        **os.environ,
        **{f"ERRAND_{name.upper()}_METRICS_PORT": str(number) for name, number in metrics_ports.items()},
        "ERRAND_AGENT_PRICE_PROMPT_USD_PER_MILLION": str(DOLLARS_A_MILLION),
        "ERRAND_AGENT_PRICE_COMPLETION_USD_PER_MILLION": str(DOLLARS_A_MILLION),
        "ERRAND_GATEWAY_DELETION_SETTLE_SECONDS": "5",
        "ERRAND_TOOLS_HTTP_PRIVATE_NETWORKS": "127.0.0.0/8",
        "ERRAND_TOOLS_HTTP_PORTS": f"80,443,{port}",
        "ERRAND_TOOLS_HTTP_ALLOW_LIST": f"127.0.0.1:{port}",
        **more,
    }
    options = ("--detach", "--json", "--data-dir", str(folder), "--port", str(own_port))
    begun = json.loads(errand("up", *options, env=environment))
    headers = {"X-API-Key": begun["admin_key"]}
    try:
        with httpx.Client(base_url=begun["url"], headers=headers, timeout=150) as client:
            metrics = {name: f"127.0.0.1:{number}" for name, number in {**metrics_ports, "gateway": own_port}.items()}
            yield Suite(begun["url"], begun["admin_key"], folder, target, client, environment, metrics)
    finally:
        errand("down", "--data-dir", str(folder))
