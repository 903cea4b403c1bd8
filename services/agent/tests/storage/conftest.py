"""The agent's tables on SQLite and on Postgres."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from errand_agent.app import SCHEMA
from errand_common.db import Database, migrate

MIGRATIONS = "errand_agent.storage.migrations"


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite+aiosqlite:///{tmp_path}/agent.db"
    await asyncio.to_thread(migrate, url, package=MIGRATIONS, schema=SCHEMA)
    database = Database(url, schema=SCHEMA)
    yield database
    await database.close()


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[Database]:
    await asyncio.to_thread(migrate, postgres_url, package=MIGRATIONS, schema=SCHEMA)
    database = Database(postgres_url, schema=SCHEMA)
    yield database
    await database.close()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    made: Database = request.getfixturevalue(request.param)
    return made
