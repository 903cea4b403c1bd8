"""Queries of documents and their chunks."""

import sqlalchemy as sa
from errand_common.db import Database, new_id, utc_now
from errand_common.errors import Conflict, NotFound, QuotaExceeded
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from errand_rag.domain.errors import DocumentRejected
from errand_rag.domain.models import (
    Document,
    DocumentState,
    IngestedDocument,
    Job,
    JobKind,
    Page,
    Quota,
    Upload,
)
from errand_rag.storage.collections import QUOTA_RETRY_SECONDS, begin_building, locked_collection, page_of
from errand_rag.storage.jobs import store_job
from errand_rag.storage.models import ChunkRow, CollectionRow, ContentRow, DocumentRow, total

_MAX_FAILURE_CHARACTERS = 1000
_MIN_DEAD_VECTORS = 1000
_DEAD_SHARE = 0.3
_ENDED_WITHOUT = (DocumentState.FAILED.value, DocumentState.CANCELLED.value)


class SqlDocuments:
    """Documents on SQLite or Postgres; `owner` leases the purge jobs that deletion stores."""

    def __init__(self, database: Database, *, owner: str) -> None:
        self._database = database
        self._owner = owner

    async def add(self, tenant_id: str, upload: Upload, *, principal_id: str, quota: Quota) -> tuple[Document, bool]:
        """Stores bytes, document and job together; or returns the duplicate and True.

        Raises NotFound when the collection went away, QuotaExceeded past the tenant's `quota` or the
        collection's own.
        """
        async with self._database.transaction(tenant_id) as session:
            await locked_collection(session, tenant_id, upload.collection_id)
            same = await _same_content(session, upload)
            if same is not None:
                return await self._add_again(session, same, upload, principal_id)
            await _check_quotas(session, tenant_id, upload, quota)
            row = _new_row(tenant_id, upload, principal_id)
            session.add(row)
            await session.flush()
            session.add(ContentRow(document_id=row.id, tenant_id=tenant_id, content=upload.content, clean_text=""))
            _store_ingestion(session, row, principal_id, priority=upload.priority)
            return row.to_domain(), False

    async def _add_again(
        self, session: AsyncSession, same: DocumentRow, upload: Upload, principal_id: str
    ) -> tuple[Document, bool]:
        if upload.metadata:
            same.details = dict(upload.metadata)
        if same.state not in _ENDED_WITHOUT:
            return same.to_domain(), True
        _reset(same)
        _store_ingestion(session, same, principal_id)
        return same.to_domain(), False

    async def get(self, tenant_id: str, document_id: str) -> Document:
        """Raises NotFound."""
        async with self._database.transaction(tenant_id, read_only=True) as session:
            return (await _row(session, tenant_id, document_id)).to_domain()

    async def list_page(
        self,
        tenant_id: str,
        collection_id: str,
        *,
        size: int,
        position: str | None,
        state: DocumentState | None = None,
    ) -> Page[Document]:
        """Newest first."""
        query = (
            sa.select(DocumentRow)
            .where(DocumentRow.tenant_id == tenant_id, DocumentRow.collection_id == collection_id)
            .order_by(DocumentRow.id.desc())
            .limit(size + 1)
        )
        if position is not None:
            query = query.where(DocumentRow.id < position)
        if state is not None:
            query = query.where(DocumentRow.state == state.value)
        async with self._database.transaction(tenant_id, read_only=True) as session:
            found = [row.to_domain() for row in (await session.execute(query)).scalars()]
        return page_of(found, size)

    async def content(self, tenant_id: str, document_id: str) -> bytes:
        """The uploaded bytes. Raises NotFound."""
        return (await self._content_row(tenant_id, document_id)).content

    async def clean_text(self, tenant_id: str, document_id: str) -> str:
        """The text that offsets point into; empty before the document is ready."""
        return (await self._content_row(tenant_id, document_id)).clean_text

    async def _content_row(self, tenant_id: str, document_id: str) -> ContentRow:
        query = sa.select(ContentRow).where(ContentRow.document_id == document_id, ContentRow.tenant_id == tenant_id)
        async with self._database.transaction(tenant_id, read_only=True) as session:
            row = (await session.execute(query)).scalar_one_or_none()
        if row is None:
            raise NotFound("document", document_id)
        return row

    async def progress(self, tenant_id: str, document_id: str, percent: int) -> bool:
        """Marks it PROCESSING, unless it is READY; False when it is gone or was cancelled."""
        ready = DocumentRow.state == DocumentState.READY.value
        return await self._set(
            tenant_id,
            document_id,
            # One that was cancelled and tried again has two attempts, and the other may have been first.
            state=sa.case((ready, DocumentRow.state), else_=DocumentState.PROCESSING.value),
            progress_percent=sa.case((ready, DocumentRow.progress_percent), else_=percent),
        )

    async def fail(self, tenant_id: str, document_id: str, reason: str) -> None:
        """Marks it FAILED, unless it was cancelled or is READY."""
        await self._set(
            tenant_id,
            document_id,
            DocumentRow.state != DocumentState.READY.value,
            state=DocumentState.FAILED.value,
            failure=reason[:_MAX_FAILURE_CHARACTERS],
        )

    async def _set(self, tenant_id: str, document_id: str, *where: sa.ColumnElement[bool], **values: object) -> bool:
        change = (
            sa.update(DocumentRow)
            .where(DocumentRow.id == document_id, DocumentRow.tenant_id == tenant_id)
            .where(DocumentRow.state != DocumentState.CANCELLED.value, *where)
            .values(**values)
        )
        async with self._database.transaction(tenant_id) as session:
            return bool(getattr(await session.execute(change), "rowcount", 0))

    async def complete(self, tenant_id: str, ingested: IngestedDocument, *, principal_id: str) -> None:
        """Makes it READY and replaces older documents of its file name, in one transaction.

        Raises NotFound when it is gone: deleted, cancelled, or a newer document of its name was first.
        """
        async with self._database.transaction(tenant_id) as session:
            row = await _locked_row(session, tenant_id, ingested.document_id)
            if row.state == DocumentState.CANCELLED.value:
                raise NotFound("document", row.id)
            if row.state == DocumentState.READY.value:
                return  # cancelled and tried again: another attempt was first
            await _adopt_model(session, row.collection_id, ingested)
            for older in await _older_of_name(session, row):
                await self._remove_with_job(session, older, principal_id)
            await _store_chunks(session, row, ingested)
            row.state, row.progress_percent, row.failure = DocumentState.READY.value, 100, ""
            row.title, row.media_type = ingested.read.title, ingested.read.media_type
            row.chunk_count = len(ingested.read.chunks)

    async def retry(self, tenant_id: str, document_id: str, *, principal_id: str) -> Document:
        """Makes a failed or cancelled one PENDING again. Raises NotFound, Conflict when it is neither."""
        async with self._database.transaction(tenant_id) as session:
            row = await _locked_row(session, tenant_id, document_id)
            if row.state not in _ENDED_WITHOUT:
                raise Conflict(
                    f"document '{document_id}' is {row.state}; only a failed or cancelled one is tried again",
                    resource="document",
                    id=document_id,
                )
            _reset(row)
            _store_ingestion(session, row, principal_id)
            return row.to_domain()

    async def cancel(self, tenant_id: str, document_id: str) -> Document:
        """Makes it CANCELLED; a running ingestion finds out. Raises NotFound, Conflict when it ended."""
        async with self._database.transaction(tenant_id) as session:
            row = await _locked_row(session, tenant_id, document_id)
            if row.state not in (DocumentState.PENDING.value, DocumentState.PROCESSING.value):
                raise Conflict(
                    f"document '{document_id}' is {row.state}; only one on its way is cancelled",
                    resource="document",
                    id=document_id,
                )
            row.state, row.progress_percent = DocumentState.CANCELLED.value, 0
            return row.to_domain()

    async def delete(self, tenant_id: str, document_id: str, *, principal_id: str) -> Job:
        """Removes all rows and stores the job that removes the vectors. Raises NotFound."""
        async with self._database.transaction(tenant_id) as session:
            row = await _locked_row(session, tenant_id, document_id)
            return await self._remove_with_job(session, row, principal_id, owner=self._owner)

    async def _remove_with_job(
        self,
        session: AsyncSession,
        row: DocumentRow,
        principal_id: str,
        *,
        owner: str | None = None,
    ) -> Job:
        collection = await session.get_one(CollectionRow, row.collection_id, populate_existing=True)
        collection.dead_vectors += row.chunk_count
        await _remove(session, row.id)
        await _compact_if_worth(session, collection, principal_id)
        return store_job(
            session,
            JobKind.PURGE_DOCUMENT,
            tenant_id=row.tenant_id,
            collection_id=row.collection_id,
            document_id=row.id,
            principal_id=principal_id,
            lease_owner=owner,
        )


async def _compact_if_worth(session: AsyncSession, collection: CollectionRow, principal_id: str) -> None:
    """Vector indexes keep the place of what is deleted: past a share of dead ones a new one is built."""
    if collection.building is not None or collection.dead_vectors < _MIN_DEAD_VECTORS:
        return
    count = sa.select(sa.func.count()).where(ChunkRow.collection_id == collection.id)
    if collection.dead_vectors >= _DEAD_SHARE * (await session.execute(count)).scalar_one():
        await begin_building(session, collection, collection.embedding_model, principal_id)


async def _row(session: AsyncSession, tenant_id: str, document_id: str) -> DocumentRow:
    # Postgres takes no NUL in a text; nothing is named so.
    id_ = document_id.replace("\x00", "")
    query = sa.select(DocumentRow).where(DocumentRow.id == id_, DocumentRow.tenant_id == tenant_id)
    row = (await session.execute(query, execution_options={"populate_existing": True})).scalar_one_or_none()
    if row is None:
        raise NotFound("document", document_id)
    return row


async def _locked_row(session: AsyncSession, tenant_id: str, document_id: str) -> DocumentRow:
    """The row as it is once its collection's other writers have ended."""
    row = await _row(session, tenant_id, document_id)
    await locked_collection(session, tenant_id, row.collection_id)
    return await _row(session, tenant_id, document_id)


async def _same_content(session: AsyncSession, upload: Upload) -> DocumentRow | None:
    """The document with the same bytes, unless a newer version of its name is to replace it."""
    newer = aliased(DocumentRow)
    superseded = sa.exists().where(
        newer.collection_id == DocumentRow.collection_id,
        newer.filename == DocumentRow.filename,
        newer.id > DocumentRow.id,
    )
    query = (
        sa.select(DocumentRow)
        .where(
            DocumentRow.collection_id == upload.collection_id,
            DocumentRow.content_hash == upload.content_hash,
            ~superseded,
        )
        .order_by(DocumentRow.id.desc())
        .limit(1)
    )
    return (await session.execute(query)).scalar_one_or_none()


async def _check_quotas(session: AsyncSession, tenant_id: str, upload: Upload, quota: Quota) -> None:
    collection = await session.get_one(CollectionRow, upload.collection_id)
    own = Quota(documents=collection.max_documents, bytes=collection.max_bytes)
    await _check_quota(session, DocumentRow.tenant_id == tenant_id, "the tenant", upload, quota)
    if own.documents or own.bytes:
        inside = DocumentRow.collection_id == upload.collection_id
        await _check_quota(session, inside, f"the collection '{collection.name}'", upload, own)


async def _check_quota(
    session: AsyncSession, inside: sa.ColumnElement[bool], whose: str, upload: Upload, quota: Quota
) -> None:
    used = sa.select(sa.func.count(), total(DocumentRow.size_bytes)).where(inside)
    documents, size = (await session.execute(used)).one()
    exceeded = {
        "documents": bool(quota.documents) and documents >= quota.documents,
        "bytes": bool(quota.bytes) and size + len(upload.content) > quota.bytes,
    }
    for name, limit in (("documents", quota.documents), ("bytes", quota.bytes)):
        if exceeded[name]:
            raise QuotaExceeded(
                f"{whose} may hold {limit} {name} and this would be more; delete some first",
                retry_after_seconds=QUOTA_RETRY_SECONDS,
                quota=name,
            )


def _new_row(tenant_id: str, upload: Upload, principal_id: str) -> DocumentRow:
    return DocumentRow(
        id=new_id("doc"),
        tenant_id=tenant_id,
        collection_id=upload.collection_id,
        filename=upload.filename,
        title=upload.filename,
        media_type="",
        size_bytes=len(upload.content),
        content_hash=upload.content_hash,
        state=DocumentState.PENDING.value,
        progress_percent=0,
        failure="",
        chunk_count=0,
        created_at=utc_now(),
        details=dict(upload.metadata),
        uploaded_by=principal_id,
    )


def _reset(row: DocumentRow) -> None:
    row.state, row.progress_percent, row.failure = DocumentState.PENDING.value, 0, ""


def _store_ingestion(session: AsyncSession, row: DocumentRow, principal_id: str, *, priority: int = 0) -> None:
    store_job(
        session,
        JobKind.INGEST,
        tenant_id=row.tenant_id,
        collection_id=row.collection_id,
        document_id=row.id,
        principal_id=principal_id,
        priority=priority,
    )


async def _older_of_name(session: AsyncSession, row: DocumentRow) -> list[DocumentRow]:
    query = sa.select(DocumentRow).where(
        DocumentRow.collection_id == row.collection_id,
        DocumentRow.filename == row.filename,
        DocumentRow.id < row.id,
    )
    return list((await session.execute(query)).scalars())


async def _adopt_model(session: AsyncSession, collection_id: str, ingested: IngestedDocument) -> None:
    """The first document's model becomes the collection's: vectors of two models do not compare."""
    collection = await session.get_one(CollectionRow, collection_id, populate_existing=True)
    model = ingested.embedding_model
    if collection.generation != ingested.generation:
        raise Conflict("the collection's index was built anew meanwhile; the document is ingested again")
    if not collection.embedding_model:
        collection.embedding_model = model
    elif collection.embedding_model != model:
        raise DocumentRejected(
            f"the collection was embedded with '{collection.embedding_model}', this document with "
            f"'{model}'; try it again"
        )


async def _store_chunks(session: AsyncSession, row: DocumentRow, ingested: IngestedDocument) -> None:
    await session.execute(
        sa.update(ContentRow).where(ContentRow.document_id == row.id).values(clean_text=ingested.read.clean_text)
    )
    await session.execute(
        sa.insert(ChunkRow),
        [
            {
                "id": chunk.id,
                "tenant_id": row.tenant_id,
                "collection_id": row.collection_id,
                "document_id": row.id,
                "position": chunk.index,
                "page": chunk.page,
                "start_offset": chunk.start,
                "end_offset": chunk.end,
                "title": ingested.read.title,
                "heading": chunk.heading,
                "text": chunk.text,
            }
            for chunk in ingested.read.chunks
        ],
    )


async def _remove(session: AsyncSession, document_id: str) -> None:
    for row, column in (
        (ChunkRow, ChunkRow.document_id),
        (ContentRow, ContentRow.document_id),
        (DocumentRow, DocumentRow.id),
    ):
        await session.execute(sa.delete(row).where(column == document_id))
