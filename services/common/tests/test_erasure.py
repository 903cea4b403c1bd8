"""Erasing a tenant, on SQLite and on Postgres."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from errand_common.db import Database
from errand_common.erasure import erase_tenant
from errand_common.errors import InvalidArgument, PermissionDenied
from errand_common.principal import may_erase_tenant
from errand_common.testing.keys import principal

METADATA = sa.MetaData()
FOLDERS = sa.Table(
    "folders", METADATA, sa.Column("id", sa.String(64), primary_key=True), sa.Column("tenant_id", sa.String(64))
)
NOTES = sa.Table(
    "notes",
    METADATA,
    sa.Column("tenant_id", sa.String(64), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("folder_id", sa.ForeignKey("folders.id"), type_=sa.String(64)),
)
LOG = sa.Table("log", METADATA, sa.Column("id", sa.Integer, primary_key=True), sa.Column("tenant_id", sa.String(64)))
SHARED = sa.Table("shared", METADATA, sa.Column("id", sa.Integer, primary_key=True))


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/x.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = Database(url, schema="public")
    async with opened.engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)
    yield opened
    await opened.close()


async def test_a_tenant_is_erased_whole_and_others_stay(database: Database) -> None:
    async with database.transaction() as session:
        for tenant in ("one", "two"):
            await session.execute(sa.insert(FOLDERS), [{"id": f"{tenant}-folder", "tenant_id": tenant}])
            rows = [{"tenant_id": tenant, "number": n, "folder_id": f"{tenant}-folder"} for n in range(2_500)]
            await session.execute(sa.insert(NOTES), rows)
        await session.execute(sa.insert(LOG), [{"id": 1, "tenant_id": "one"}])
        await session.execute(sa.insert(SHARED), [{"id": 1}])
    keep = frozenset({"log"})
    assert await erase_tenant(database, METADATA, "one", keep=keep) == {"folders": 1, "notes": 2_500}
    assert await erase_tenant(database, METADATA, "one", keep=keep) == {}
    async with database.transaction(read_only=True) as session:
        left = {
            table.name: await session.scalar(sa.select(sa.func.count()).select_from(table))
            for table in METADATA.sorted_tables
        }
    assert left == {"folders": 1, "notes": 2_500, "log": 1, "shared": 1}


def test_only_admins_erase_and_only_their_own() -> None:
    with pytest.raises(PermissionDenied):
        may_erase_tenant(principal("one", roles=("developer",)), "one")
    with pytest.raises(InvalidArgument, match="repeat its id"):
        may_erase_tenant(principal("one", roles=("owner",)), "two")
    may_erase_tenant(principal("one", roles=("owner",)), "one")
