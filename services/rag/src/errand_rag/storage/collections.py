"""Queries of collections."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import lru_cache
from itertools import count
from typing import Any

import sqlalchemy as sa
from errand_common.db import Database, new_id, utc_now
from errand_common.errors import AlreadyExists, Conflict, NotFound, QuotaExceeded
from errand_common.statements import Statement
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from errand_rag.domain.filters import MetadataType
from errand_rag.domain.models import (
    Collection,
    CollectionChange,
    DocumentState,
    Job,
    JobKind,
    NewCollection,
    Page,
    index_name,
)
from errand_rag.storage.jobs import PURGES, store_job
from errand_rag.storage.models import ChunkRow, CollectionRow, ContentRow, DocumentRow, JobRow, total
from errand_rag.storage.reading import Queries, among, from_json, listed

QUOTA_RETRY_SECONDS = 3600.0
# Longer than a search may take.
_OLD_INDEX_SECONDS = 60.0
# Longer than a call may take: only a crash leaves it to others.
_RECONCILE_LEASE_SECONDS = 3600.0
# Searches for the same collections of a tenant, remembered until the next commit.
_MAX_KNOWN = 256
# What a search needs to know of a collection.
_SEARCHED = (
    "id",
    "tenant_id",
    "name",
    "description",
    "chunk_tokens",
    "chunk_overlap_tokens",
    "embedding_model",
    "created_at",
    "revision",
    "metadata_schema",
    "reader_roles",
    "writer_roles",
    "max_documents",
    "max_bytes",
    "generation",
    "building",
    "building_model",
    "building_done",
)


class SqlCollections:
    """Collections on SQLite or Postgres; `owner` leases the purge jobs that deletion stores."""

    def __init__(self, database: Database, *, owner: str) -> None:
        self._database = database
        self._queries = Queries(database)
        self._owner = owner
        self._known: dict[tuple[str, tuple[str, ...]], tuple[Collection, ...]] = {}
        self._known_at: int | None = None

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
            generation=0,
            building=None,
            building_model="",
            building_done=0,
            dead_vectors=0,
        )
        count = sa.select(sa.func.count()).where(CollectionRow.tenant_id == tenant_id)
        try:
            async with self._database.transaction(tenant_id) as session:
                if (await session.execute(count)).scalar_one() >= limit:
                    raise QuotaExceeded(
                        f"the tenant has {limit} collections, the most allowed; delete one first",
                        retry_after_seconds=QUOTA_RETRY_SECONDS,
                        quota="collections",
                    )
                session.add(row)
        except IntegrityError as error:
            raise AlreadyExists("collection", new.name) from error
        return row.to_domain(0, 0, 0)

    async def get(self, tenant_id: str, name_or_id: str) -> Collection:
        """Raises NotFound."""
        async with self._database.transaction(tenant_id, read_only=True) as session:
            return (await _named(session, tenant_id, [name_or_id]))[0]

    async def resolve(self, tenant_id: str, names_or_ids: Sequence[str]) -> tuple[Collection, ...]:
        """The named ones, or all for none named, their counts left at 0. Raises NotFound for an unknown one.

        On SQLite they are read again only when something was committed since: every search asks.
        """
        names = _sendable(names_or_ids)
        version, key = self._queries.version(), (tenant_id, tuple(names_or_ids))
        if version is None:
            return await self._read(tenant_id, names)
        if version != self._known_at or len(self._known) > _MAX_KNOWN:
            self._known, self._known_at = {}, version
        known = self._known
        if key not in known:
            known[key] = await self._read(tenant_id, names)
        return known[key]

    async def _read(self, tenant_id: str, names: Sequence[str]) -> tuple[Collection, ...]:
        postgres = self._database.is_postgres
        values: dict[str, Any] = {"tenant": tenant_id}
        if names:
            values |= {"names": listed(names, postgres=postgres)}
        rows = await self._queries.rows(tenant_id, _bare(named=bool(names), postgres=postgres), values)
        found = [_found(row) for row in rows]
        return tuple(_in_order(found, names) if names else found)

    async def list_page(self, tenant_id: str, *, size: int, position: str | None) -> Page[Collection]:
        """Oldest first."""
        query = _select(tenant_id).order_by(CollectionRow.id).limit(size + 1)
        if position is not None:
            query = query.where(CollectionRow.id > position)
        async with self._database.transaction(tenant_id, read_only=True) as session:
            rows = await session.execute(query)
            found = [row.to_domain(*sums) for row, *sums in rows]
        return page_of(found, size)

    async def update(self, tenant_id: str, collection_id: str, change: CollectionChange) -> Collection:
        """Raises NotFound."""
        async with self._database.transaction(tenant_id) as session:
            row = await locked_collection(session, tenant_id, collection_id)
            for name, value in asdict(change).items():
                if value is not None:
                    setattr(row, name, sorted(value) if isinstance(value, frozenset) else value)
            await session.flush()
            return (await _named(session, tenant_id, [collection_id]))[0]

    async def delete(self, tenant_id: str, name_or_id: str, *, principal_id: str) -> Job:
        """Removes all rows and stores the job that removes the vectors. Raises NotFound."""
        async with self._database.transaction(tenant_id) as session:
            collection = (await _named(session, tenant_id, [name_or_id]))[0]
            id_ = collection.id
            # The lock makes an upload or a finishing ingestion wait, then find nothing.
            await locked_collection(session, tenant_id, id_)
            documents = sa.select(DocumentRow.id).where(DocumentRow.collection_id == id_)
            await session.execute(sa.delete(ChunkRow).where(ChunkRow.collection_id == id_))
            await session.execute(sa.delete(ContentRow).where(ContentRow.document_id.in_(documents)))
            await session.execute(sa.delete(DocumentRow).where(DocumentRow.collection_id == id_))
            await session.execute(sa.delete(CollectionRow).where(CollectionRow.id == id_))
            # Nobody searches an older index any more.
            older = sa.update(JobRow).where(JobRow.collection_id == id_, JobRow.kind.in_(PURGES))
            await session.execute(older.values(run_at=utc_now()))
            if collection.building is not None:
                store_purge(session, tenant_id, id_, collection.building_index, principal_id)
            return store_purge(session, tenant_id, id_, collection.index, principal_id, owner=self._owner)

    async def indexes(self, tenant_id: str, collection_id: str) -> frozenset[str]:
        """All that may hold vectors of it: in use, being built, waiting to be dropped. It may be deleted."""
        own = sa.select(CollectionRow.generation, CollectionRow.building).where(
            CollectionRow.id == collection_id, CollectionRow.tenant_id == tenant_id
        )
        async with self._database.transaction(tenant_id, read_only=True) as session:
            numbers = [number for row in await session.execute(own) for number in row if number is not None]
            dropped = await _dropped_indexes(session, collection_id)
            return dropped | {index_name(collection_id, number) for number in numbers}

    async def drop_unknown(
        self, tenant_id: str, collection_id: str, stored: frozenset[str], *, principal_id: str
    ) -> frozenset[str]:
        """Stores the jobs that drop those of the stored indexes that nothing refers to, and gives them.

        Raises NotFound.
        """
        async with self._database.transaction(tenant_id) as session:
            # The lock keeps a new index from taking one of the names meanwhile.
            row = await locked_collection(session, tenant_id, collection_id)
            unknown = stored - row.indexes - await _dropped_indexes(session, collection_id)
            for name in sorted(unknown):
                store_purge(session, tenant_id, collection_id, name, principal_id)
            return unknown

    async def start_reconciling(self, tenant_id: str, collection_id: str, *, principal_id: str) -> Job:
        """Stores a job that the caller does himself: deletions wait for it, a crash leaves it to the worker."""
        async with self._database.transaction(tenant_id) as session:
            return store_job(
                session,
                JobKind.RECONCILE,
                tenant_id=tenant_id,
                collection_id=collection_id,
                document_id="",
                principal_id=principal_id,
                lease_owner=self._owner,
                lease_seconds=_RECONCILE_LEASE_SECONDS,
            )

    async def start_building(self, tenant_id: str, collection_id: str, model: str, *, principal_id: str) -> Collection:
        """Stores the job that builds the next index. Raises NotFound, Conflict when one is being built."""
        async with self._database.transaction(tenant_id) as session:
            row = await locked_collection(session, tenant_id, collection_id)
            if row.building is not None:
                raise Conflict(
                    f"an index of '{row.name}' is being built; wait for it", resource="collection", id=row.id
                )
            await begin_building(session, row, model, principal_id)
            await session.flush()
            return (await _named(session, tenant_id, [collection_id]))[0]

    async def report_building(self, tenant_id: str, collection_id: str, done: int) -> None:
        """Notes how many chunks the new index has."""
        note = sa.update(CollectionRow).where(CollectionRow.id == collection_id).values(building_done=done)
        async with self._database.transaction(tenant_id) as session:
            await session.execute(note.where(CollectionRow.tenant_id == tenant_id))

    async def finish_building(
        self, tenant_id: str, collection_id: str, done: frozenset[str], *, principal_id: str
    ) -> frozenset[str]:
        """Switches when `done` holds every chunk, else gives those it lacks. Raises NotFound."""
        async with self._database.transaction(tenant_id) as session:
            # The lock makes a finishing ingestion wait; it finds the switch and embeds again.
            row = await locked_collection(session, tenant_id, collection_id)
            stored = await session.execute(sa.select(ChunkRow.id).where(ChunkRow.collection_id == collection_id))
            missing = frozenset(stored.scalars()) - done
            if missing or row.building is None:
                return missing
            # Searches that began before the switch still read the old index.
            store_purge(session, tenant_id, row.id, row.index, principal_id, delay_seconds=_OLD_INDEX_SECONDS)
            row.generation, row.embedding_model = row.building, row.building_model
            row.building, row.building_model, row.building_done, row.dead_vectors = None, "", 0, 0
            return missing

    async def abandon_building(self, tenant_id: str, collection_id: str, *, principal_id: str) -> None:
        """Gives up the index that is being built. Raises NotFound."""
        async with self._database.transaction(tenant_id) as session:
            row = await locked_collection(session, tenant_id, collection_id)
            if row.building is not None:
                store_purge(session, tenant_id, row.id, index_name(row.id, row.building), principal_id)
            row.building, row.building_model, row.building_done = None, "", 0

    async def unfinished_documents(self, tenant_id: str, collection_id: str) -> frozenset[str]:
        """Documents whose vectors may be stored before their rows."""
        states = (DocumentState.PENDING.value, DocumentState.PROCESSING.value)
        query = sa.select(DocumentRow.id).where(
            DocumentRow.tenant_id == tenant_id,
            DocumentRow.collection_id == collection_id,
            DocumentRow.state.in_(states),
        )
        async with self._database.transaction(tenant_id, read_only=True) as session:
            return frozenset((await session.execute(query)).scalars())


def store_purge(
    session: AsyncSession,
    tenant_id: str,
    collection_id: str,
    index: str,
    principal_id: str,
    *,
    owner: str | None = None,
    delay_seconds: float = 0.0,
) -> Job:
    """Adds the job that drops an index to the transaction."""
    return store_job(
        session,
        JobKind.PURGE_COLLECTION,
        tenant_id=tenant_id,
        collection_id=collection_id,
        document_id="",
        principal_id=principal_id,
        lease_owner=owner,
        index=index,
        delay_seconds=delay_seconds,
    )


async def begin_building(session: AsyncSession, row: CollectionRow, model: str, principal_id: str) -> None:
    """Marks the next index as being built and adds its job to the transaction."""
    dropped = await _dropped_indexes(session, row.id)
    # One that was given up may still wait to be dropped: its name is not free before.
    free = (number for number in count(row.generation + 1) if index_name(row.id, number) not in dropped)
    row.building, row.building_model, row.building_done = next(free), model, 0
    store_job(
        session,
        JobKind.REINDEX,
        tenant_id=row.tenant_id,
        collection_id=row.id,
        document_id="",
        principal_id=principal_id,
        index=index_name(row.id, row.building),
    )


async def _dropped_indexes(session: AsyncSession, collection_id: str) -> frozenset[str]:
    """Names of those that wait to be dropped, for the first or the last time."""
    drops = (JobKind.PURGE_COLLECTION.value, JobKind.SWEEP_INDEX.value)
    names = sa.select(JobRow.index_name).where(JobRow.kind.in_(drops), JobRow.collection_id == collection_id)
    return frozenset((await session.execute(names)).scalars())


async def locked_collection(session: AsyncSession, tenant_id: str, collection_id: str) -> CollectionRow:
    """The row, held until the transaction ends. Raises NotFound."""
    # Changing it holds it on both databases, and tells the query caches.
    lock = (
        sa.update(CollectionRow)
        .where(CollectionRow.id == collection_id, CollectionRow.tenant_id == tenant_id)
        .values(revision=CollectionRow.revision + 1)
    )
    result = await session.execute(lock)
    if not getattr(result, "rowcount", 0):
        raise NotFound("collection", collection_id)
    return await session.get_one(CollectionRow, collection_id, populate_existing=True)


def page_of(found: list[Any], size: int) -> Page[Any]:
    """A page of the first `size` rows; one row more says that there is a next page."""
    items = tuple(found[:size])
    return Page(items=items, next_position=items[-1].id if len(found) > size else None)


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
        sa.select(total(DocumentRow.size_bytes))
        .where(DocumentRow.collection_id == CollectionRow.id)
        .correlate(CollectionRow)
        .scalar_subquery()
    )
    chunks = (
        sa.select(total(DocumentRow.chunk_count))
        .where(DocumentRow.collection_id == CollectionRow.id)
        .correlate(CollectionRow)
        .scalar_subquery()
    )
    return sa.select(CollectionRow, ready, size, chunks).where(CollectionRow.tenant_id == tenant_id)


@lru_cache(4)
def _bare(*, named: bool, postgres: bool) -> Statement:
    """Without the counts, which read every document, and built once: each search asks for its collections."""
    columns: list[Any] = [getattr(CollectionRow, name) for name in _SEARCHED]
    own = CollectionRow.tenant_id == sa.bindparam("tenant", type_=sa.String)
    query = sa.select(*columns).where(own).order_by(CollectionRow.id)
    if named:
        columns_of_names = (CollectionRow.id, CollectionRow.name)
        query = query.where(sa.or_(*(among(column, "names", postgres=postgres) for column in columns_of_names)))
    return Statement(query)


def _found(row: Sequence[Any]) -> Collection:
    """A row of `_bare` as the domain knows it."""
    values = dict(zip(_SEARCHED, row, strict=True))
    created_at, schema = values["created_at"], from_json(values["metadata_schema"])
    if isinstance(created_at, str):  # as SQLite keeps it
        created_at = datetime.fromisoformat(created_at).replace(tzinfo=UTC)
    read = {
        "created_at": created_at,
        "metadata_schema": {name: MetadataType(kind) for name, kind in schema.items()},
        "reader_roles": frozenset(from_json(values["reader_roles"])),
        "writer_roles": frozenset(from_json(values["writer_roles"])),
    }
    return Collection(**values | read, document_count=0)


async def _named(session: AsyncSession, tenant_id: str, names_or_ids: Sequence[str]) -> list[Collection]:
    names = _sendable(names_or_ids)
    rows = (await session.execute(_select(tenant_id).where(_is_named(names)))).all()
    return _in_order([row.to_domain(*sums) for row, *sums in rows], names)


def _sendable(names_or_ids: Sequence[str]) -> list[str]:
    # Postgres takes no NUL in a text; nothing is named so.
    return [name.replace("\x00", "") for name in dict.fromkeys(names_or_ids)]


def _is_named(names: Sequence[str]) -> sa.ColumnElement[bool]:
    return sa.or_(CollectionRow.id.in_(names), CollectionRow.name.in_(names))


def _in_order(found: Sequence[Collection], names: Sequence[str]) -> list[Collection]:
    """One for each name, in their order. Raises NotFound."""
    known = {key: collection for collection in found for key in (collection.name, collection.id)}
    # An id wins over another collection's name that looks like it.
    known.update({collection.id: collection for collection in found})
    for name in names:
        if name not in known:
            raise NotFound("collection", name)
    return list({known[name].id: known[name] for name in names}.values())
