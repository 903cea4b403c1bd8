"""The tables on a SQLite file and on a real Postgres."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from errand_common.db import Database
from errand_rag import app
from errand_rag.settings import RagSettings
from errand_rag.storage.collections import SqlCollections
from errand_rag.storage.documents import SqlDocuments
from errand_rag.storage.jobs import SqlJobs
from errand_rag.storage.passages import SqlPassages


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, settings: RagSettings, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
        settings = RagSettings(**{**settings.model_dump(), "database_url": url})
    app.migrate(settings)
    database = app.open_database(settings)
    yield database
    await database.close()


@pytest.fixture
def collections(database: Database) -> SqlCollections:
    return SqlCollections(database, owner="me")


@pytest.fixture
def documents(database: Database) -> SqlDocuments:
    return SqlDocuments(database, owner="me")


@pytest.fixture
def passages(database: Database) -> SqlPassages:
    return SqlPassages(database)


@pytest.fixture
def jobs(database: Database) -> SqlJobs:
    return SqlJobs(database)
