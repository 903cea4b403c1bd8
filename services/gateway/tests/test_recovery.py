"""A gateway that is killed: its successor writes down what it had not."""

import asyncio
import signal
from pathlib import Path

import httpx
from errand_common.testing.keys import TestKeys, free_port
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import ADMIN_KEY

from .test_process import start, until_ready


async def test_a_killed_gateway_loses_no_request(
    tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path
) -> None:
    """kill -9 while nothing is written yet: the next process writes down every request that was answered."""
    port = free_port()
    process = await start(tmp_path, backend, keys, port, template=template, RECORD_FLUSH_SECONDS="60")
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": ADMIN_KEY}, timeout=30, verify=False
    ) as http:
        await until_ready(http)
        for number in range(20):
            answer = await http.post("/api/v1/chat", json={"message": "hi"}, headers={"X-Request-ID": f"mine-{number}"})
            assert answer.status_code == 200
        process.send_signal(signal.SIGKILL)
        await process.communicate()
        process = await start(tmp_path, backend, keys, port)
        try:
            await until_ready(http)
            audit = (await http.get("/api/v1/admin/audit?page_size=200")).json()["items"]
            usage = (await http.get("/api/v1/usage?page_size=200")).json()["items"]
        finally:
            process.terminate()
            await asyncio.wait_for(process.communicate(), 60)
    assert {f"mine-{number}" for number in range(20)} <= {row["event"]["request_id"] for row in audit}
    assert len([row for row in usage if row["request_id"].startswith("mine-")]) == 20
