"""A stream that broke is gone on with at another gateway: the same bytes."""

import asyncio
from pathlib import Path

import httpx
from errand_common.testing.keys import TestKeys, free_port
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import ADMIN_KEY

from .test_process import start, until_ready


async def test_another_process_goes_on_with_the_same_bytes(
    tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path
) -> None:
    ports = [free_port(), free_port()]
    processes = [await start(tmp_path / str(port), backend, keys, port, template=template) for port in ports]
    clients = [
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": ADMIN_KEY}, timeout=30, verify=False
        )
        for port in ports
    ]
    try:
        await asyncio.gather(*(until_ready(client) for client in clients))
        run = (await clients[0].post("/api/v1/runs", json={"message": "hi there"})).json()
        path = f"/api/v1/runs/{run['id']}/events"
        whole = (await clients[0].get(path)).content
        events = [piece + b"\n\n" for piece in whole.split(b"\n\n") if piece]
        assert len(events) > 3
        for seen in range(1, len(events)):
            rest = await clients[1].get(path, headers={"Last-Event-ID": str(seen)})
            assert b"".join(events[:seen]) + rest.content == whole
    finally:
        for client in clients:
            await client.aclose()
        for process in processes:
            process.terminate()
        await asyncio.gather(*(process.communicate() for process in processes))
