"""Queries of collections."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from errand_common.db import Database, new_id, utc_now
from errand_common.errors import AlreadyExists, NotFound, QuotaExceeded
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from errand_rag.domain.models import Collection, DocumentState, Job, JobKind, NewCollection, Page
from errand_rag.storage.jobs import store_job
from errand_rag.storage.models import ChunkRow, CollectionRow, ContentRow, DocumentRow

_QUOTA_RETRY_SECONDS = 3600.0


class SqlCollections:
    """Collections on SQLite or Postgres; `owner` leases the purge jobs that deletion stores."""

    def __init__(self, database: Database, *, owner: str) -> None:
        self._database = database
        self._owner = owner

    async def create(self, tenant_id: str, new: NewCollection, *, limit: int) -> Collection:
        """Raises AlreadyExists for a taken name, QuotaExceeded past `limit` collections."""
        row = CollectionRow(
            id=new_id("col"),
            tenant_id=tenant_id,
            name=new.name,
            description=new.description,
            chunk_tokens=new.chunk_tokens,
            chunk_overlap_tokens=new.chunk_overlap_tokens,
            embedding_model="",
            revision=0,
            created_at=utc_now(),
            metadata_schema={name: kind.value for name, kind in new.metadata_schema.items()},
            reader_roles=sorted(new.reader_roles),
            writer_roles=sorted(new.writer_roles),
            max_documents=new.max_documents,
            max_bytes=new.max_bytes,
        )
        count = sa.select(sa.func.count()).where(CollectionRow.tenant_id == tenant_id)
        try:
            async with self._database.transaction(tenant_id) as session:
                if (await session.execute(count)).scalar_one() >= limit:
                    raise QuotaExceeded(
                        f"the tenant has {limit} collections, the most allowed; delete one first",
                        retry_after_seconds=_QUOTA_RETRY_SECONDS,
                        quota="collections",
                    )
                session.add(row)
        except IntegrityError as error:
            raise AlreadyExists("collection", new.name) from error
        return row.to_domain(0, 0)

    async def get(self, tenant_id: str, name_or_id: str) -> Collection:
        """Raises NotFound."""
        async with self._database.transaction(tenant_id, read_only=True) as session:
            return (await _named(session, tenant_id, [name_or_id]))[0]

    async def resolve(self, tenant_id: str, names_or_ids: Sequence[str]) -> tuple[Collection, ...]:
        """The named ones, or all for none named. Raises NotFound for the first unknown one."""
        async with self._database.transaction(tenant_id, read_only=True) as session:
            if names_or_ids:
                return tuple(await _named(session, tenant_id, names_or_ids))
            rows = await session.execute(_select(tenant_id).order_by(CollectionRow.id))
            return tuple(row.to_domain(count, size) for row, count, size in rows)

    async def list_page(self, tenant_id: str, *, size: int, position: str | None) -> Page[Collection]:
        """Oldest first."""
        query = _select(tenant_id).order_by(CollectionRow.id).limit(size + 1)
        if position is not None:
            query = query.where(CollectionRow.id > position)
        async with self._database.transaction(tenant_id, read_only=True) as session:
            rows = await session.execute(query)
            found = [row.to_domain(count, size) for row, count, size in rows]
        return page_of(found, size)

    async def delete(self, tenant_id: str, name_or_id: str, *, principal_id: str) -> Job:
        """Removes all rows and stores the job that removes the vectors. Raises NotFound."""
        async with self._database.transaction(tenant_id) as session:
            id_ = (await _named(session, tenant_id, [name_or_id]))[0].id
            # The lock makes an upload or a finishing ingestion wait, then find nothing.
            await session.execute(lock_collection(tenant_id, id_))
            documents = sa.select(DocumentRow.id).where(DocumentRow.collection_id == id_)
            await session.execute(sa.delete(ChunkRow).where(ChunkRow.collection_id == id_))
            await session.execute(sa.delete(ContentRow).where(ContentRow.document_id.in_(documents)))
            await session.execute(sa.delete(DocumentRow).where(DocumentRow.collection_id == id_))
            await session.execute(sa.delete(CollectionRow).where(CollectionRow.id == id_))
            return store_job(
                session,
                JobKind.PURGE_COLLECTION,
                tenant_id=tenant_id,
                collection_id=id_,
                document_id="",
                principal_id=principal_id,
                lease_owner=self._owner,
            )


def page_of(found: list[Any], size: int) -> Page[Any]:
    """A page of the first `size` rows; one row more says that there is a next page."""
    items = tuple(found[:size])
    return Page(items=items, next_position=items[-1].id if len(found) > size else None)


def lock_collection(tenant_id: str, collection_id: str) -> sa.Update:
    """Changes the row, which holds it until the transaction ends; no row, no collection."""
    return (
        sa.update(CollectionRow)
        .where(CollectionRow.id == collection_id, CollectionRow.tenant_id == tenant_id)
        .values(revision=CollectionRow.revision + 1)
    )


def _select(tenant_id: str) -> sa.Select[Any]:
    ready = (
        sa.select(sa.func.count())
        .where(
            DocumentRow.collection_id == CollectionRow.id,
            DocumentRow.state == DocumentState.READY.value,
        )
        .correlate(CollectionRow)
        .scalar_subquery()
    )
    size = (
        sa.select(sa.func.coalesce(sa.func.sum(DocumentRow.size_bytes), 0))
        .where(DocumentRow.collection_id == CollectionRow.id)
        .correlate(CollectionRow)
        .scalar_subquery()
    )
    return sa.select(CollectionRow, ready, size).where(CollectionRow.tenant_id == tenant_id)


async def _named(session: AsyncSession, tenant_id: str, names_or_ids: Sequence[str]) -> list[Collection]:
    # Postgres takes no NUL in a text; nothing is named so.
    names = [name.replace("\x00", "") for name in dict.fromkeys(names_or_ids)]
    either = sa.or_(CollectionRow.id.in_(names), CollectionRow.name.in_(names))
    rows = (await session.execute(_select(tenant_id).where(either))).all()
    found = [row.to_domain(count, size) for row, count, size in rows]
    known = {key: collection for collection in found for key in (collection.name, collection.id)}
    # An id wins over another collection's name that looks like it.
    known.update({collection.id: collection for collection in found})
    for name in names:
        if name not in known:
            raise NotFound("collection", name)
    return list({known[name].id: known[name] for name in names}.values())
