"""A gateway that really listens, in this process, for tests."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from errand_common.testing.keys import TestKeys
from fastapi import FastAPI
from pydantic import SecretStr

from errand_gateway.app import build_app, migrate_database
from errand_gateway.server import make_server
from errand_gateway.settings import GatewaySettings
from errand_gateway.testing.backend import FakeBackend

ADMIN_KEY = "errand_admin0_0123456789abcdef0123456789abcdef"


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """A gateway on loopback with its fakes; `http` sends the admin key."""

    url: str
    app: FastAPI
    backend: FakeBackend
    settings: GatewaySettings
    http: httpx.AsyncClient

    def client(self, key: str | None) -> httpx.AsyncClient:
        """A client with another key, or with none."""
        return _client(self.url, key)


def _client(url: str, key: str | None) -> httpx.AsyncClient:
    headers = {"X-API-Key": key} if key else {}
    # Reading the system's certificates would take longer than most tests; loopback has none.
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=30, verify=False)  # noqa: S501


def test_settings(folder: Path, backend: FakeBackend, keys: TestKeys, **changes: Any) -> GatewaySettings:
    """Settings of a gateway whose data lie in a folder."""
    values: dict[str, Any] = {
        "data_dir": folder,
        "port": 0,
        "agent_target": backend.target,
        "inference_target": backend.target,
        "rag_target": backend.target,
        "tools_target": backend.target,
        "jwks": str(keys.jwks_file),
        "signing_key_file": keys.signing_key_file,
        "bootstrap_admin_key": SecretStr(ADMIN_KEY),
        "record_flush_seconds": 0.05,
        "deletion_settle_seconds": 0.05,
        "drain_seconds": 2,
        "rate_limit": "100000/minute",
    }
    return GatewaySettings(**(values | changes))


test_settings.__test__ = False  # type: ignore[attr-defined]


def migrated_template(folder: Path) -> Path:
    """A migrated, empty database to copy: migrating anew for each test would take most of its time."""
    settings = GatewaySettings(data_dir=folder)
    migrate_database(settings)
    return folder / "gateway.db"


@contextlib.asynccontextmanager
async def running_gateway(
    settings: GatewaySettings, backend: FakeBackend, *, template: Path | None = None
) -> AsyncIterator[RunningGateway]:
    """Serves a gateway until the end of the block."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    if template is not None and not (settings.data_dir / "gateway.db").exists():
        shutil.copy(template, settings.data_dir / "gateway.db")
    app = build_app(settings)
    server = make_server(app, settings)
    task = asyncio.create_task(server.serve())
    while not server.started:
        if task.done():
            raise RuntimeError("the gateway did not start") from task.exception()
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    try:
        async with _client(url, ADMIN_KEY) as http:
            yield RunningGateway(url, app, backend, settings, http)
    finally:
        server.should_exit = True
        await task
