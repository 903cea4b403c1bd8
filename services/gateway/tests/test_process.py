"""The process: starts, drains on SIGTERM, explains bad settings."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import httpx
from errand_common.testing.keys import TestKeys, free_port
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import ADMIN_KEY


async def start(
    folder: Path, backend: FakeBackend, keys: TestKeys, port: int, **extra: str
) -> asyncio.subprocess.Process:
    """`python -m errand_gateway serve` in a folder."""
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


async def test_running_requests_end_and_new_ones_are_refused(
    tmp_path: Path, backend: FakeBackend, keys: TestKeys
) -> None:
    backend.agent.slow_seconds = 1.5
    port = free_port()
    process = await start(tmp_path, backend, keys, port)
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": ADMIN_KEY}, timeout=20, verify=False) as http:
        await until_ready(http)
        streaming = asyncio.create_task(
            http.post("/api/v1/chat", json={"message": "slow"}, headers={"Accept": "text/event-stream"})
        )
        await asyncio.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        answer = await streaming
    output, _ = await asyncio.wait_for(process.communicate(), 90)
    backend.agent.slow_seconds = 30.0
    assert "event: ended" in answer.text
    assert process.returncode == 0
    assert ADMIN_KEY.encode() not in output
    assert ADMIN_KEY.rsplit("_", 1)[1].encode() not in output


async def test_a_kept_connection_ends_with_an_answer(tmp_path: Path, backend: FakeBackend, keys: TestKeys) -> None:
    port = free_port()
    process = await start(tmp_path, backend, keys, port, DRAIN_SECONDS="10", LOG_FORMAT="json")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20, verify=False) as http:
        await until_ready(http)
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        while b'"draining"' not in await process.stdout.readline():
            pass
        answer = await http.get("/healthz")
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0


async def test_bad_setting_is_named(tmp_path: Path, backend: FakeBackend, keys: TestKeys) -> None:
    process = await start(tmp_path, backend, keys, 0, BOOTSTRAP_ADMIN_KEY="short-secret", RATE_LIMIT="many")
    _, error = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 2
    assert b"ERRAND_GATEWAY_BOOTSTRAP_ADMIN_KEY" in error
    assert b"ERRAND_GATEWAY_RATE_LIMIT" in error
    assert b"short-secret" not in error
