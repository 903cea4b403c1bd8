"""Certificates of deletions, and the looks that prove them."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from errand_common.db import Database, UtcDateTime, new_id, utc_now
from errand_common.errors import NotFound
from sqlalchemy.orm import Mapped, mapped_column

from errand_rag.domain.models import Certificate, Deleted, JobKind, Page, Proof, Traces, index_name
from errand_rag.storage.collections import page_of
from errand_rag.storage.models import JSON, Base, ChunkRow, CollectionRow, ContentRow, DocumentRow, JobRow, total

# Of more documents than this the first ones are followed one by one; all are counted.
_MAX_TRACED = 5000


class CertificateRow(Base):  # type: ignore[valid-type,misc]
    """What a deletion removed, ids and counts only."""

    __tablename__ = "deletion_certificates"

    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(sa.String(64))
    kind: Mapped[str] = mapped_column(sa.String(16))
    target_id: Mapped[str] = mapped_column(sa.String(256))
    requested_by: Mapped[str] = mapped_column(sa.String(256))
    requested_at: Mapped[datetime] = mapped_column(UtcDateTime)
    documents: Mapped[int] = mapped_column(sa.BigInteger)
    chunks: Mapped[int] = mapped_column(sa.BigInteger)
    bytes: Mapped[int] = mapped_column(sa.BigInteger)
    traces: Mapped[dict[str, Any]] = mapped_column(JSON)
    proofs: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    proven_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    def to_domain(self) -> Certificate:
        """As the domain knows it."""
        traces = Traces(
            documents=tuple((pair[0], pair[1]) for pair in self.traces["documents"]),
            collections=tuple(self.traces["collections"]),
            indexes=tuple(self.traces["indexes"]),
        )
        return Certificate(
            id=self.id,
            kind=self.kind,
            target_id=self.target_id,
            requested_by=self.requested_by,
            requested_at=self.requested_at,
            deleted=Deleted(self.documents, self.chunks, self.bytes, traces),
            proofs=tuple(Proof(**proof) for proof in self.proofs),
            proven_at=self.proven_at,
        )


class SqlCertificates:
    """Certificates on SQLite or Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def measure(
        self, tenant_id: str, *, document_id: str, collection_ids: Sequence[str] | None, uploaded_by: str
    ) -> Deleted:
        """What is about to go: one document, collections, or what a principal uploaded."""
        inside = [DocumentRow.tenant_id == tenant_id]
        if document_id:
            inside.append(DocumentRow.id == document_id)
        elif collection_ids is not None:
            inside.append(DocumentRow.collection_id.in_(collection_ids))
        else:
            inside.append(DocumentRow.uploaded_by == uploaded_by.replace("\x00", ""))
        sums = sa.select(
            sa.func.count(),
            total(DocumentRow.chunk_count),
            total(DocumentRow.size_bytes),
        ).where(*inside)
        named = sa.select(DocumentRow.collection_id, DocumentRow.id).where(*inside)
        if collection_ids is not None:
            named = named.limit(_MAX_TRACED)
        generations = sa.select(CollectionRow.id, CollectionRow.generation, CollectionRow.building).where(
            CollectionRow.tenant_id == tenant_id, CollectionRow.id.in_(collection_ids or ())
        )
        async with self._database.transaction(tenant_id, read_only=True) as session:
            documents, chunks, size = (await session.execute(sums)).one()
            pairs = tuple((row[0], row[1]) for row in await session.execute(named))
            found = (await session.execute(generations)).all()
        indexes = tuple(index_name(id_, number) for id_, *numbers in found for number in numbers if number is not None)
        traces = Traces(documents=pairs, collections=tuple(collection_ids or ()), indexes=indexes)
        return Deleted(documents=documents, chunks=chunks, bytes=size, traces=traces)

    async def create(
        self, tenant_id: str, *, kind: str, target_id: str, requested_by: str, deleted: Deleted
    ) -> Certificate:
        """Stores one without proofs."""
        row = CertificateRow(
            id=new_id("del"),
            tenant_id=tenant_id,
            kind=kind,
            target_id=target_id,
            requested_by=requested_by,
            requested_at=utc_now(),
            documents=deleted.documents,
            chunks=deleted.chunks,
            bytes=deleted.bytes,
            traces=asdict(deleted.traces),
            proofs=[],
            proven_at=None,
        )
        async with self._database.transaction(tenant_id) as session:
            session.add(row)
        return row.to_domain()

    async def prove(self, tenant_id: str, certificate: Certificate) -> Certificate:
        """Stores the proofs with the time."""
        proven = replace(certificate, proven_at=utc_now())
        change = (
            sa.update(CertificateRow)
            .where(CertificateRow.id == certificate.id, CertificateRow.tenant_id == tenant_id)
            .values(proofs=[asdict(proof) for proof in proven.proofs], proven_at=proven.proven_at)
        )
        async with self._database.transaction(tenant_id) as session:
            await session.execute(change)
        return proven

    async def get(self, tenant_id: str, certificate_id: str) -> Certificate:
        """Raises NotFound."""
        id_ = certificate_id.replace("\x00", "")
        query = sa.select(CertificateRow).where(CertificateRow.id == id_, CertificateRow.tenant_id == tenant_id)
        async with self._database.transaction(tenant_id, read_only=True) as session:
            row = (await session.execute(query)).scalar_one_or_none()
            if row is None:
                raise NotFound("deletion certificate", certificate_id)
            return row.to_domain()

    async def list_page(self, tenant_id: str, *, size: int, position: str | None) -> Page[Certificate]:
        """Newest first."""
        query = (
            sa.select(CertificateRow)
            .where(CertificateRow.tenant_id == tenant_id)
            .order_by(CertificateRow.id.desc())
            .limit(size + 1)
        )
        if position is not None:
            query = query.where(CertificateRow.id < position)
        async with self._database.transaction(tenant_id, read_only=True) as session:
            found = [row.to_domain() for row in (await session.execute(query)).scalars()]
        return page_of(found, size)

    async def deleted_collections(self, tenant_id: str) -> frozenset[str]:
        """Ids of all collections whose deletion was ever asked for."""
        query = sa.select(CertificateRow.traces["collections"]).where(
            CertificateRow.tenant_id == tenant_id, CertificateRow.kind.in_(("collection", "tenant"))
        )
        async with self._database.transaction(tenant_id, read_only=True) as session:
            return frozenset(id_ for ids in (await session.execute(query)).scalars() for id_ in ids)

    async def rows_left(self, tenant_id: str, traces: Traces) -> int:
        """Rows of documents, contents, chunks and collections that should be gone."""
        documents = [document for _, document in traces.documents]
        looks = [(DocumentRow.id, documents), (ContentRow.document_id, documents), (ChunkRow.document_id, documents)]
        looks += [(CollectionRow.id, list(traces.collections)), (ChunkRow.collection_id, list(traces.collections))]
        left = 0
        async with self._database.transaction(tenant_id, read_only=True) as session:
            for column, ids in looks:
                for start in range(0, len(ids), _MAX_TRACED):
                    part = ids[start : start + _MAX_TRACED]
                    count = sa.select(sa.func.count()).where(column.in_(part))
                    left += int((await session.execute(count)).scalar_one())
        return left

    async def removal_stored(self, tenant_id: str, traces: Traces) -> bool:
        """Whether a job is stored that removes vectors of these."""
        purge = sa.select(JobRow.id).where(JobRow.tenant_id == tenant_id).limit(1)
        of_documents = purge.where(JobRow.kind == JobKind.PURGE_DOCUMENT.value)
        of_indexes = purge.where(JobRow.kind == JobKind.PURGE_COLLECTION.value)
        documents = [document for _, document in traces.documents]
        looks = [of_indexes.where(JobRow.collection_id.in_(traces.collections))]
        for start in range(0, len(documents), _MAX_TRACED):
            looks.append(of_documents.where(JobRow.document_id.in_(documents[start : start + _MAX_TRACED])))
        async with self._database.transaction(tenant_id, read_only=True) as session:
            return any([(await session.execute(look)).first() is not None for look in looks])

    async def words_left(self, tenant_id: str) -> int:
        """Entries of the keyword index without a chunk; on Postgres they are part of the chunk's row."""
        if self._database.is_postgres:
            return 0
        query = sa.text("SELECT count(*) FROM chunk_words_docsize WHERE id NOT IN (SELECT serial FROM chunks)")
        async with self._database.transaction(tenant_id, read_only=True) as session:
            return int((await session.execute(query)).scalar_one())
