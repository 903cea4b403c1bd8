"""Runs that outlive the gateway that began them: what they used is booked all the same, and once."""

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from errand_common.db import Database, migrate, utc_now
from errand_common.principal import Principal
from errand_common.testing.keys import TestKeys, free_port
from errand_gateway.domain.followed import FollowedKind, FollowedRun
from errand_gateway.domain.pricing import Price
from errand_gateway.storage.followed import SqlFollowedRepository
from errand_gateway.storage.models import SCHEMA
from errand_gateway.testing.gateway import ADMIN_KEY, RunningGateway, running_gateway, test_settings
from errand_gateway.transport import background

from .test_process import start, until_ready
from .transport.test_quotas import tenant_with_quota, until_booked

PROJECT = {"X-Errand-Project": "shop"}
LEASE = timedelta(seconds=60)


async def _approved(http: httpx.AsyncClient, run_id: str) -> None:
    """A person lets the run's call happen, and it ends."""
    [waiting] = (await http.get(f"/api/v1/approvals?run_id={run_id}")).json()["items"]
    assert (await http.post(f"/api/v1/approvals/{waiting['id']}/approve", json={})).is_success


async def _booked(http: httpx.AsyncClient, run_id: str) -> list[dict[str, Any]]:
    """Rows of what the run used, once there is one."""
    async with asyncio.timeout(60):
        while True:
            rows = (await http.get("/api/v1/usage?page_size=200")).json()["items"]
            if found := [row for row in rows if row["run_id"] == run_id and row["action"] == "runs:ended"]:
                return found
            await asyncio.sleep(0.05)


async def test_a_run_that_ends_after_its_gateway_is_booked_by_another(
    tmp_path: Path, gateway: RunningGateway, keys: TestKeys, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(background, "_PAUSE", timedelta(seconds=0.02))
    settings = test_settings(tmp_path, gateway.backend, keys)
    async with (
        running_gateway(settings, gateway.backend, template=template) as first,
        tenant_with_quota(first, 100_000) as (http, quota_id),
    ):
        key = http.headers["X-API-Key"]
        run = (await http.post("/api/v1/runs", json={"message": "ask me"}, headers=PROJECT)).json()
    async with running_gateway(settings, gateway.backend) as second, second.client(key) as http:
        await _approved(http, run["id"])
        [row] = await _booked(http, run["id"])
        await until_booked(http, quota_id, 25)
    assert (row["project"], row["prompt_tokens"], row["completion_tokens"]) == ("shop", 20, 5)


async def test_a_run_of_a_gateway_that_was_killed_is_booked_once(
    tmp_path: Path, gateway: RunningGateway, keys: TestKeys, template: Path
) -> None:
    port, backend = free_port(), gateway.backend
    process = await start(tmp_path, backend, keys, port, template=template)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": ADMIN_KEY}, timeout=30, verify=False
    ) as http:
        await until_ready(http)
        run = (await http.post("/api/v1/runs", json={"message": "ask me"}, headers=PROJECT)).json()
        process.send_signal(signal.SIGKILL)
        await process.communicate()
        await _approved(gateway.http, run["id"])
        _let_lease_expire(tmp_path)
        process = await start(tmp_path, backend, keys, port)
        try:
            await until_ready(http)
            assert len(await _booked(http, run["id"])) == 1
        finally:
            process.terminate()
            await asyncio.wait_for(process.communicate(), 60)
    with closing(sqlite3.connect(tmp_path / "gateway.db")) as connection:
        assert connection.execute("SELECT count(*) FROM followed_runs").fetchone() == (0,)
        booked = "SELECT count(*) FROM usage WHERE run_id = ? AND action = 'runs:ended'"
        assert connection.execute(booked, (run["id"],)).fetchone() == (1,)


def _let_lease_expire(folder: Path) -> None:
    """Its time is over, without waiting for it."""
    with closing(sqlite3.connect(folder / "gateway.db")) as connection:
        connection.execute("UPDATE followed_runs SET due_at = '2000-01-01 00:00:00'")
        connection.commit()


@pytest_asyncio.fixture(loop_scope="session", params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlFollowedRepository]:
    url = f"sqlite+aiosqlite:///{tmp_path}/gateway.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    await asyncio.to_thread(migrate, url, package="errand_gateway.storage.migrations", schema=SCHEMA)
    database = Database(url, schema=SCHEMA)
    yield SqlFollowedRepository(database)
    await database.close()


async def test_only_one_gateway_holds_a_run_and_books_it(store: SqlFollowedRepository) -> None:
    now = utc_now()
    principal = Principal("acme", "key_1", frozenset({"user"}), frozenset({"chat"}), "req-1")
    price = Price(1.0, 2.0, cached_input=0.5)
    run = FollowedRun("run_1", FollowedKind.AGENT, principal, "shop", price, now + timedelta(days=1))
    await store.add(run, "dead", held_until=now + LEASE)
    assert await store.claim("b", now=now, lease=LEASE, limit=9) == []
    later = now + LEASE
    await store.hold(["run_1"], "dead", until=later + LEASE)
    assert await store.claim("b", now=later, lease=LEASE, limit=9) == []
    later += LEASE
    taken = await asyncio.gather(*(store.claim(name, now=later, lease=LEASE, limit=9) for name in ("b", "c")))
    assert sorted(taken, key=len) == [[], [run]]
    holder, other = ("b", "c") if taken[0] else ("c", "b")
    for gone in ("dead", other):
        await store.release("run_1", gone, due_at=now)
        assert not await store.drop("run_1", gone)
    assert await store.drop("run_1", holder)
    assert await store.claim("b", now=later + 2 * LEASE, lease=LEASE, limit=9) == []
