"""The process: starts, drains on SIGTERM, explains bad settings."""

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

import httpx
import pytest
from errand_common.main import run_service
from errand_common.testing.keys import TestKeys, free_port
from errand_gateway.app import migrate_database
from errand_gateway.server import serve
from errand_gateway.settings import GatewaySettings
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import ADMIN_KEY


async def start(
    folder: Path, backend: FakeBackend, keys: TestKeys, port: int, *, template: Path | None = None, **extra: str
) -> asyncio.subprocess.Process:
    """`python -m errand_gateway serve` in a folder, with a copy of a database that is migrated already if given."""
    if template is not None:
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(shutil.copy, template, folder / "gateway.db")
    settings = {
        "DATA_DIR": str(folder),
        "PORT": str(port),
        "BOOTSTRAP_ADMIN_KEY": ADMIN_KEY,
        "SIGNING_KEY_FILE": str(keys.signing_key_file),
        **{f"{name}_TARGET": backend.target for name in ("AGENT", "INFERENCE", "RAG", "TOOLS")},
        **extra,
    }
    environment = os.environ | {f"ERRAND_GATEWAY_{name}": value for name, value in settings.items()}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "errand_gateway", "serve", env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def until_ready(http: httpx.AsyncClient) -> None:
    """Waits until the gateway can work."""
    async with asyncio.timeout(180):
        while True:
            try:
                if (await http.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)


async def test_a_gateway_that_is_stopped_lets_all_have_their_answers(
    tmp_path: Path, backend: FakeBackend, keys: TestKeys
) -> None:
    """A stream ends whole, and a connection that is kept is closed with an answer that says so."""
    backend.agent.slow_seconds = 1.5
    port = free_port()
    process = await start(tmp_path, backend, keys, port, DRAIN_SECONDS="10", LOG_FORMAT="json")
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": ADMIN_KEY}, timeout=20, verify=False) as http:
        await until_ready(http)
        wanted = {"Accept": "text/event-stream"}
        async with http.stream("POST", "/api/v1/chat", json={"message": "slow"}, headers=wanted) as streaming:
            process.send_signal(signal.SIGTERM)
            assert process.stdout is not None
            output = b""
            while b'"draining"' not in output:
                output += await process.stdout.readline()
            kept = await http.get("/healthz")
            assert (kept.status_code, kept.headers["connection"]) == (200, "close")
            streamed = (await streaming.aread()).decode()
    rest, _ = await asyncio.wait_for(process.communicate(), 90)
    backend.agent.slow_seconds = 30.0
    assert "event: ended" in streamed
    assert process.returncode == 0
    assert ADMIN_KEY.encode() not in output + rest
    assert ADMIN_KEY.rsplit("_", 1)[1].encode() not in output + rest


def test_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in {"BOOTSTRAP_ADMIN_KEY": "short-secret", "RATE_LIMIT": "many"}.items():
        monkeypatch.setenv(f"ERRAND_GATEWAY_{name}", value)
    monkeypatch.setattr(sys, "argv", ["errand_gateway", "serve"])
    assert run_service("errand_gateway", GatewaySettings, serve, migrate_database) == 2
    error = capsys.readouterr().err
    assert "ERRAND_GATEWAY_BOOTSTRAP_ADMIN_KEY" in error
    assert "ERRAND_GATEWAY_RATE_LIMIT" in error
    assert "short-secret" not in error
