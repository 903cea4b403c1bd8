"""Tables. Every one of a tenant's carries `tenant_id` and row-level security on Postgres."""

from datetime import datetime

import sqlalchemy as sa
from errand_common.db import UtcDateTime, declarative_base
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import InstrumentedAttribute, Mapped, mapped_column

from errand_rag.domain.filters import MetadataType
from errand_rag.domain.models import Collection, Document, DocumentState, Job, JobKind, index_name

Base = declarative_base()
_Id = sa.String(64)
JSON = sa.JSON().with_variant(JSONB, "postgresql")
_Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def total(column: InstrumentedAttribute[int]) -> sa.ColumnElement[int]:
    """The sum as an integer, 0 of nothing: Postgres sums big integers to a decimal number."""
    return sa.func.coalesce(sa.cast(sa.func.sum(column), sa.BigInteger), 0)


class CollectionRow(Base):  # type: ignore[valid-type,misc]
    """A collection; `revision` grows with every change, which makes its writers wait in line."""

    __tablename__ = "collections"

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(_Id)
    name: Mapped[str] = mapped_column(sa.String(63))
    description: Mapped[str] = mapped_column(sa.Text)
    chunk_tokens: Mapped[int]
    chunk_overlap_tokens: Mapped[int]
    embedding_model: Mapped[str] = mapped_column(sa.String(256))
    revision: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    metadata_schema: Mapped[dict[str, str]] = mapped_column(JSON)
    reader_roles: Mapped[list[str]] = mapped_column(JSON)
    writer_roles: Mapped[list[str]] = mapped_column(JSON)
    max_documents: Mapped[int] = mapped_column(sa.BigInteger)
    max_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    generation: Mapped[int]
    building: Mapped[int | None]
    building_model: Mapped[str] = mapped_column(sa.String(256))
    building_done: Mapped[int]
    dead_vectors: Mapped[int]

    @property
    def index(self) -> str:
        """Name of the index that searches use."""
        return index_name(self.id, self.generation)

    @property
    def indexes(self) -> frozenset[str]:
        """Names of the index that searches use and of the one that is being built."""
        numbers = (self.generation, self.building)
        return frozenset(index_name(self.id, number) for number in numbers if number is not None)

    def to_domain(self, document_count: int, size_bytes: int, chunk_count: int) -> Collection:
        """As the domain knows it."""
        return Collection(
            id=self.id,
            tenant_id=self.tenant_id,
            name=self.name,
            description=self.description,
            chunk_tokens=self.chunk_tokens,
            chunk_overlap_tokens=self.chunk_overlap_tokens,
            embedding_model=self.embedding_model,
            document_count=document_count,
            created_at=self.created_at,
            size_bytes=size_bytes,
            revision=self.revision,
            metadata_schema={name: MetadataType(kind) for name, kind in self.metadata_schema.items()},
            reader_roles=frozenset(self.reader_roles),
            writer_roles=frozenset(self.writer_roles),
            max_documents=self.max_documents,
            max_bytes=self.max_bytes,
            generation=self.generation,
            building=self.building,
            building_model=self.building_model,
            building_done=self.building_done,
            chunk_count=chunk_count,
        )


class DocumentRow(Base):  # type: ignore[valid-type,misc]
    """A document and its state."""

    __tablename__ = "documents"

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(_Id)
    collection_id: Mapped[str] = mapped_column(sa.ForeignKey("collections.id"))
    filename: Mapped[str] = mapped_column(sa.String(255))
    title: Mapped[str] = mapped_column(sa.Text)
    media_type: Mapped[str] = mapped_column(sa.String(255))
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    content_hash: Mapped[str] = mapped_column(sa.String(64))
    state: Mapped[str] = mapped_column(sa.String(16))
    progress_percent: Mapped[int]
    failure: Mapped[str] = mapped_column(sa.Text)
    chunk_count: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    details: Mapped[dict[str, str | float | bool]] = mapped_column(JSON)
    uploaded_by: Mapped[str] = mapped_column(sa.String(256))

    def to_domain(self) -> Document:
        """As the domain knows it."""
        return Document(
            id=self.id,
            tenant_id=self.tenant_id,
            collection_id=self.collection_id,
            filename=self.filename,
            title=self.title,
            media_type=self.media_type,
            size_bytes=self.size_bytes,
            content_hash=self.content_hash,
            state=DocumentState(self.state),
            progress_percent=self.progress_percent,
            failure=self.failure,
            chunk_count=self.chunk_count,
            created_at=self.created_at,
            metadata=self.details,
            uploaded_by=self.uploaded_by,
        )


class ContentRow(Base):  # type: ignore[valid-type,misc]
    """A document's bytes as uploaded, and the clean text that offsets point into."""

    __tablename__ = "document_contents"

    document_id: Mapped[str] = mapped_column(sa.ForeignKey("documents.id"), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(_Id)
    content: Mapped[bytes] = mapped_column(sa.LargeBinary)
    clean_text: Mapped[str] = mapped_column(sa.Text)


class ChunkRow(Base):  # type: ignore[valid-type,misc]
    """A passage. Only ready documents have any; a vector without its row is not there."""

    __tablename__ = "chunks"

    # The keyword index of SQLite needs an integer key.
    serial: Mapped[int] = mapped_column(_Serial, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(_Id)
    tenant_id: Mapped[str] = mapped_column(_Id)
    collection_id: Mapped[str] = mapped_column(_Id)
    document_id: Mapped[str] = mapped_column(sa.ForeignKey("documents.id"))
    position: Mapped[int]
    page: Mapped[int | None]
    start_offset: Mapped[int]
    end_offset: Mapped[int]
    title: Mapped[str] = mapped_column(sa.Text)
    heading: Mapped[str] = mapped_column(sa.Text)
    text: Mapped[str] = mapped_column(sa.Text)


class JobRow(Base):  # type: ignore[valid-type,misc]
    """Stored work. Ids only, so that a worker may take any tenant's: no row-level security here."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(32))
    tenant_id: Mapped[str] = mapped_column(_Id)
    collection_id: Mapped[str] = mapped_column(_Id)
    document_id: Mapped[str] = mapped_column(_Id)
    principal_id: Mapped[str] = mapped_column(sa.String(256))
    index_name: Mapped[str] = mapped_column(sa.String(96))
    attempts: Mapped[int]
    priority: Mapped[int]
    run_at: Mapped[datetime] = mapped_column(UtcDateTime)
    lease_owner: Mapped[str | None] = mapped_column(sa.String(256))
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)

    def to_domain(self) -> Job:
        """As the domain knows it."""
        return Job(
            id=self.id,
            kind=JobKind(self.kind),
            tenant_id=self.tenant_id,
            collection_id=self.collection_id,
            document_id=self.document_id,
            principal_id=self.principal_id,
            attempts=self.attempts,
            index=self.index_name,
        )
