"""Four gateways on one Postgres, 500 requests at once, a quota for 100: none too many, hardly one too few."""

import asyncio
from pathlib import Path

import httpx
import pytest
from errand_common.db import migrate
from errand_common.testing.keys import TestKeys, free_port
from errand_gateway.storage.models import SCHEMA
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import ADMIN_KEY

from .test_process import start, until_ready

GATEWAYS = 4
REQUESTS = 500
PAID_FOR = 100
ASKED = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.timeout(300)
async def test_no_quota_is_overspent(tmp_path: Path, backend: FakeBackend, keys: TestKeys, postgres_url: str) -> None:
    await asyncio.to_thread(migrate, postgres_url, package="errand_gateway.storage.migrations", schema=SCHEMA)
    ports = [free_port() for _ in range(GATEWAYS)]
    processes = [
        await start(
            tmp_path / str(port), backend, keys, port,
            DATABASE_URL=postgres_url, KEY_PEPPER="the same for all", RATE_LIMIT="100000/minute",
            PRICES='{"*": {"request": 0.001}}', LOG_LEVEL="error",
        )
        for port in ports
    ]  # fmt: skip
    clients = [
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            headers={"X-API-Key": ADMIN_KEY},
            timeout=60,
            verify=False,
            limits=httpx.Limits(max_connections=32),
        )
        for port in ports
    ]
    try:
        await asyncio.gather(*(until_ready(client) for client in clients))
        quota = {"period": "month", "measure": "cost_micros", "amount": PAID_FOR * 1000}
        made = await clients[0].post("/api/v1/admin/quotas", json=quota)
        assert made.status_code == 201, made.text
        answers = await asyncio.gather(
            *(clients[n % GATEWAYS].post("/v1/chat/completions", json=ASKED) for n in range(REQUESTS))
        )
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 429}
        granted = statuses.count(200)
        assert PAID_FOR * 0.95 <= granted <= PAID_FOR
    finally:
        for client in clients:
            await client.aclose()
        for process in processes:
            process.terminate()
        await asyncio.gather(*(process.communicate() for process in processes))
    backend.reset()
