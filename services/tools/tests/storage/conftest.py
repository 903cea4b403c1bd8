"""The stores in memory, on SQLite and on Postgres, each with the same suite over it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from errand_common.db import Database, migrate
from errand_tools.domain.mcp import McpServerStore
from errand_tools.domain.ports import EffectStore, ToolStore
from errand_tools.domain.secrets import SecretStore
from errand_tools.domain.tools import AuthScheme, HttpAuth, HttpBinding, SideEffect, Tool, ToolPolicy
from errand_tools.domain.usage import UsageStore
from errand_tools.storage.effects import SqlEffectStore
from errand_tools.storage.mcp import SqlMcpServerStore
from errand_tools.storage.secrets import SqlSecretStore
from errand_tools.storage.tools import SqlToolStore
from errand_tools.storage.usage import SqlUsageStore
from errand_tools.testing import (
    InMemoryEffectStore,
    InMemoryMcpServerStore,
    InMemorySecretStore,
    InMemoryToolStore,
    InMemoryUsageStore,
)

MIGRATIONS = "errand_tools.storage.migrations"


@dataclass(frozen=True)
class Stores:
    tools: ToolStore
    effects: EffectStore
    secrets: SecretStore
    mcp: McpServerStore
    usage: UsageStore


def _sql(database: Database) -> Stores:
    return Stores(
        SqlToolStore(database),
        SqlEffectStore(database, exclusive=False),
        SqlSecretStore(database),
        SqlMcpServerStore(database),
        SqlUsageStore(database),
    )


@pytest.fixture
def memory() -> Stores:
    return Stores(
        InMemoryToolStore(),
        InMemoryEffectStore(exclusive=False),
        InMemorySecretStore(),
        InMemoryMcpServerStore(),
        InMemoryUsageStore(),
    )


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Stores]:
    url = f"sqlite+aiosqlite:///{tmp_path}/tools.db"
    await asyncio.to_thread(migrate, url, package=MIGRATIONS, schema="tools")
    database = Database(url, schema="tools")
    yield _sql(database)
    await database.close()


@pytest.fixture
async def postgres_database(postgres_url: str) -> AsyncIterator[Database]:
    await asyncio.to_thread(migrate, postgres_url, package=MIGRATIONS, schema="tools")
    database = Database(postgres_url, schema="tools")
    yield database
    await database.close()


@pytest.fixture
def postgres(postgres_database: Database) -> Stores:
    return _sql(postgres_database)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def stores(request: pytest.FixtureRequest) -> Stores:
    chosen: Stores = request.getfixturevalue(request.param)
    return chosen


def tool(name: str = "send_mail", **changes: object) -> Tool:
    return replace(
        Tool(
            name=name,
            description="Sends a mail.",
            parameters={"type": "object", "properties": {"to": {"type": "string"}}},
            timeout_ms=5_000,
            side_effect=SideEffect.IDEMPOTENT,
            policy=ToolPolicy.ASK,
            http=HttpBinding(
                "POST",
                "https://mail.example/send",
                auth=HttpAuth(AuthScheme.HEADER, "key", "X-Key"),
                query_arguments=("to",),
                body_argument="mail",
                body_template='{"a": "{b}"}',
            ),
            reconcile_tool="",
            schema_hash="0" * 64,
        ),
        **changes,  # type: ignore[arg-type]
    )
