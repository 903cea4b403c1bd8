"""Keys, tenants and records on real Postgres, with row-level security."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio
import sqlalchemy as sa
from errand_common.db import Database, migrate, new_id, utc_now
from errand_common.errors import NotFound
from errand_gateway.domain.admin import NewKey, bootstrap, make_key
from errand_gateway.domain.auth import TenantState
from errand_gateway.domain.keys import Pepper
from errand_gateway.domain.records import AuditEvent
from errand_gateway.domain.resources import PageQuery
from errand_gateway.domain.tenants import Tenant
from errand_gateway.storage.keys import SqlKeyRepository
from errand_gateway.storage.models import SCHEMA, TENANT_TABLES, Base
from errand_gateway.storage.records import SqlRecordRepository
from errand_gateway.storage.tenants import SqlTenantRepository

PEPPER = Pepper("pepper")


@pytest_asyncio.fixture(loop_scope="session")
async def database(postgres_url: str) -> AsyncIterator[Database]:
    await asyncio.to_thread(migrate, postgres_url, package="errand_gateway.storage.migrations", schema=SCHEMA)
    opened = Database(postgres_url, schema=SCHEMA)
    yield opened
    await opened.close()


def event(tenant: str, number: int) -> AuditEvent:
    """An audit event."""
    return AuditEvent(tenant, utc_now(), "key_1", "runs:read", "GET", f"/api/v1/runs/{number}", 200, f"req-{number}")


async def add_key(database: Database, tenant: str) -> str:
    """A tenant with one key; the key's id."""
    await SqlTenantRepository(database).add(Tenant(tenant, tenant, TenantState.ACTIVE, utc_now()))
    wanted = NewKey(tenant, "test", frozenset({"user"}), frozenset({"chat"}), None)
    key, _ = make_key(wanted, PEPPER, key_id=new_id("key"), now=utc_now())
    await SqlKeyRepository(database).add(key)
    return key.id


async def test_every_tenant_table_hides_others_rows(database: Database) -> None:
    scoped = {table.name for table in Base.metadata.sorted_tables if "tenant_id" in table.columns}
    assert scoped == set(TENANT_TABLES)
    await add_key(database, "one")
    async with database.transaction(None) as session:
        for table in TENANT_TABLES:
            assert await session.scalar(sa.text(f"SELECT count(*) FROM {table}")) == 0
            forced = sa.text(f"SELECT relforcerowsecurity FROM pg_class WHERE relname = '{table}'")
            assert await session.scalar(forced) is True
    async with database.transaction("one") as session:
        assert await session.scalar(sa.text("SELECT count(*) FROM api_keys")) == 1


async def test_key_is_found_by_prefix_and_only_in_its_tenant(database: Database) -> None:
    keys = SqlKeyRepository(database)
    key_id = await add_key(database, "one")
    await add_key(database, "two")
    key = await keys.get("one", key_id)
    found = await keys.find(key.prefix)
    assert found is not None
    assert (found.key, found.tenant_state) == (key, TenantState.ACTIVE)
    with pytest.raises(NotFound):
        await keys.get("two", key_id)
    with pytest.raises(NotFound):
        await keys.revoke("two", key_id)
    assert (await keys.revoke("one", key_id)).revoked_at is not None
    assert len((await keys.list("two", PageQuery())).items) == 1


async def test_bootstrap_twice_keeps_the_first_key(database: Database) -> None:
    keys, tenants = SqlKeyRepository(database), SqlTenantRepository(database)
    text = "errand_boot00_0123456789abcdef0123456789abcdef"
    for _ in range(2):
        await bootstrap(tenants, keys, PEPPER, text, key_id=new_id("key"), now=datetime.now(UTC))
    assert len((await keys.list("default", PageQuery())).items) == 1


async def test_two_writers_make_one_chain(database: Database) -> None:
    await add_key(database, "one")
    records = SqlRecordRepository(database)
    batches = [[event("one", batch * 10 + number) for number in range(10)] for batch in range(8)]
    await asyncio.gather(*(records.add("one", [], batch, {}) for batch in batches))
    check = await records.verify_audit("one")
    assert (check.intact, check.entries, check.broken_at) == (True, 80, None)
    assert (await records.verify_audit("two")).entries == 0
