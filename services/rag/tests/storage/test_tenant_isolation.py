"""Row-level security on every table but the queue, which holds ids only."""

import pytest
import sqlalchemy as sa
from errand_common.db import Database
from errand_rag import app
from errand_rag.domain.models import Deleted, Quota, Traces
from errand_rag.settings import RagSettings
from errand_rag.storage.certificates import SqlCertificates
from errand_rag.storage.collections import SqlCollections
from errand_rag.storage.documents import SqlDocuments
from errand_rag.storage.models import Base
from errand_rag.testing.records import ingested, make_collection, upload_of

TENANT_TABLES = sorted(set(Base.metadata.tables) - {"jobs"})


@pytest.fixture
async def filled(settings: RagSettings, postgres_url: str) -> Database:
    settings = RagSettings(**{**settings.model_dump(), "database_url": postgres_url})
    app.migrate(settings)
    database = app.open_database(settings)
    collection = await make_collection(SqlCollections(database, owner="me"), "one")
    documents = SqlDocuments(database, owner="me")
    document, _ = await documents.add("acme", upload_of(collection, "a.txt", "x"), principal_id="u", quota=Quota(9, 0))
    await documents.complete("acme", ingested(document.id, "text"), principal_id="u")
    certificates = SqlCertificates(database)
    deleted = Deleted(documents=1, chunks=1, bytes=1, traces=Traces())
    await certificates.create("acme", kind="document", target_id="doc_x", requested_by="u", deleted=deleted)
    return database


async def test_every_table_shows_a_tenant_its_own_rows_only(filled: Database) -> None:
    async def count(table: str, tenant: str | None) -> int:
        async with filled.transaction(tenant) as session:
            return int((await session.execute(sa.text(f"SELECT count(*) FROM {table}"))).scalar_one())

    for table in TENANT_TABLES:
        assert await count(table, "acme") == 1, table
        assert await count(table, "other") == 0, table
        assert await count(table, None) == 0, table
    await filled.close()


async def test_a_row_for_another_tenant_is_refused(filled: Database) -> None:
    for table in TENANT_TABLES:
        async with filled.transaction("acme") as session:
            with pytest.raises(sa.exc.ProgrammingError, match="row-level security"):
                await session.execute(sa.text(f"UPDATE {table} SET tenant_id = 'other'"))
            await session.rollback()
    await filled.close()
