"""Collections of documents, search in them, and what deleting them leaves proof of."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from errand_gateway.domain.resources import Page, PageQuery

MetadataValue = str | float | bool


class MetadataType(StrEnum):
    """Type of a metadata field."""

    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"


@dataclass(frozen=True, slots=True)
class Reindex:
    """An index that is being built; no model means the one in use."""

    embedding_model: str
    chunks_done: int
    chunks_total: int


@dataclass(frozen=True, slots=True)
class NewCollection:
    """A collection to be made; no roles means everyone, a maximum of 0 leaves the tenant's alone."""

    name: str
    description: str = ""
    chunk_tokens: int = 0
    chunk_overlap_tokens: int = 0
    metadata_schema: Mapping[str, MetadataType] = field(default_factory=dict)
    reader_roles: Sequence[str] = ()
    writer_roles: Sequence[str] = ()
    max_documents: int = 0
    max_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CollectionChange:
    """What of a collection is to be another; None stays as it is."""

    description: str | None = None
    reader_roles: Sequence[str] | None = None
    writer_roles: Sequence[str] | None = None
    max_documents: int | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Collection:
    """A named set of documents."""

    id: str
    name: str
    description: str
    chunk_tokens: int
    chunk_overlap_tokens: int
    embedding_model: str
    document_count: int
    created_at: datetime | None
    metadata_schema: Mapping[str, MetadataType] = field(default_factory=dict)
    reader_roles: Sequence[str] = ()
    writer_roles: Sequence[str] = ()
    max_documents: int = 0
    max_bytes: int = 0
    size_bytes: int = 0
    reindex: Reindex | None = None


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Chunks that had no vector, vectors that had no chunk, and whether they agree now."""

    missing_vectors: int
    dead_vectors: int
    consistent: bool


class DocumentState(StrEnum):
    """Where a document's ingestion stands."""

    PENDING = "pending"
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Document:
    """A document of a collection."""

    id: str
    collection_id: str
    filename: str
    title: str
    media_type: str
    size_bytes: int
    content_hash: str
    state: DocumentState
    progress_percent: int
    failure: str
    chunk_count: int
    created_at: datetime | None
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    uploaded_by: str = ""


@dataclass(frozen=True, slots=True)
class NewDocument:
    """What is said of a document before its bytes; a higher priority (0 to 9) is ingested sooner."""

    filename: str
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    priority: int = 0


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """An uploaded document; `duplicate` when the same bytes were there already."""

    document: Document
    duplicate: bool


@dataclass(frozen=True, slots=True)
class DeletionProof:
    """One look after a deletion; `found` 0 proves it, unless the look is still to come."""

    place: str
    looked_for: int
    found: int
    pending: bool


@dataclass(frozen=True, slots=True)
class DeletionCertificate:
    """What was deleted, and what looking for it found. It holds no text."""

    id: str
    kind: str
    target_id: str
    requested_by: str
    requested_at: datetime | None
    documents: int
    chunks: int
    bytes: int
    proofs: Sequence[DeletionProof]
    complete: bool
    proven_at: datetime | None


class FilterOperator(StrEnum):
    """How a condition compares."""

    EQUAL = "equal"
    NOT_EQUAL = "not_equal"
    LESS = "less"
    LESS_OR_EQUAL = "less_or_equal"
    GREATER = "greater"
    GREATER_OR_EQUAL = "greater_or_equal"
    IN = "in"
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class Condition:
    """Compares one field of a document."""

    field: str
    operator: FilterOperator
    values: Sequence[MetadataValue]


class GroupKind(StrEnum):
    """How filters are taken together."""

    ALL_OF = "all_of"
    ANY_OF = "any_of"
    NONE_OF = "none_of"


@dataclass(frozen=True, slots=True)
class FilterGroup:
    """Filters that are taken together."""

    kind: GroupKind
    filters: Sequence["Condition | FilterGroup"]


DocumentFilter = Condition | FilterGroup


class SearchMode(StrEnum):
    """How passages are found."""

    HYBRID = "hybrid"
    VECTOR = "vector"
    KEYWORD = "keyword"


@dataclass(frozen=True, slots=True)
class SearchCommand:
    """What is looked for; no collections means all of the tenant's."""

    query: str
    collections: Sequence[str] = ()
    top_k: int = 0
    mode: SearchMode = SearchMode.HYBRID
    min_similarity: float = 0.0
    filter: DocumentFilter | None = None
    diversity: float = 0.0
    neighbours: int = 0
    rerank: bool = False


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A passage; what stands before and after it, and how well it answers (0 to 1), when these were asked for."""

    chunk_id: str
    document_id: str
    collection_id: str
    title: str
    filename: str
    page: int | None
    heading: str
    start_offset: int
    end_offset: int
    text: str
    score: float
    similarity: float
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    text_before: str = ""
    text_after: str = ""
    rerank_score: float | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Passages, best first; `degraded` when the vector side was away, `reranked` when a cross-encoder ordered them."""

    hits: Sequence[SearchHit]
    degraded: bool
    reranked: bool = False


class DocumentBackend(Protocol):
    """The rag service."""

    async def create_collection(self, new: NewCollection) -> Collection:
        """Makes a collection."""
        ...

    async def get_collection(self, collection: str) -> Collection:
        """One collection, by id or name."""
        ...

    async def list_collections(self, page: PageQuery) -> Page[Collection]:
        """Collections, oldest first."""
        ...

    async def update_collection(self, collection: str, change: CollectionChange) -> Collection:
        """Changes what was said of a collection when it was made."""
        ...

    async def delete_collection(self, collection: str) -> DeletionCertificate:
        """Deletes a collection with its documents."""
        ...

    async def reindex_collection(self, collection: str, embedding_model: str) -> Collection:
        """Starts to build its index anew; no model means the one in use."""
        ...

    async def reconcile_collection(self, collection: str, *, dry_run: bool) -> Reconciliation:
        """Compares rows with vectors and repairs the vectors."""
        ...

    async def upload(self, collection: str, new: NewDocument, data: AsyncIterator[bytes]) -> StoredDocument:
        """Streams a document's bytes, in pieces of at most 1 MiB."""
        ...

    async def fetch(self, collection: str, url: str, new: NewDocument) -> StoredDocument:
        """Has a document fetched from a URL; no file name takes host and path of it."""
        ...

    async def get_document(self, document_id: str) -> Document:
        """One document."""
        ...

    async def list_documents(
        self, collection: str, page: PageQuery, state: DocumentState | None = None
    ) -> Page[Document]:
        """A collection's documents, newest first."""
        ...

    def watch_document(self, document_id: str) -> AsyncIterator[Document]:
        """The document each time its state or progress changes, until its ingestion ends."""
        ...

    async def delete_document(self, document_id: str) -> DeletionCertificate:
        """Deletes a document."""
        ...

    async def cancel_document(self, document_id: str) -> Document:
        """Stops an ingestion."""
        ...

    async def retry_document(self, document_id: str) -> Document:
        """Tries a failed or cancelled ingestion again."""
        ...

    async def retry_documents(self, collection: str) -> int:
        """Tries all failed and cancelled ingestions again; how many."""
        ...

    async def search(self, command: SearchCommand) -> SearchResult:
        """Finds passages."""
        ...

    async def search_batch(self, commands: Sequence[SearchCommand]) -> Sequence[SearchResult]:
        """Finds passages for several queries, in their order."""
        ...

    async def delete_data(self, *, tenant_id: str = "", principal_id: str = "") -> DeletionCertificate:
        """Deletes all of the caller's tenant, or what one principal of it uploaded."""
        ...

    async def get_deletion(self, certificate_id: str) -> DeletionCertificate:
        """A certificate as it stands now."""
        ...

    async def list_deletions(self, page: PageQuery) -> Page[DeletionCertificate]:
        """Certificates, newest first."""
        ...
