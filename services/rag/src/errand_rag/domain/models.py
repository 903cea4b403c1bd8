"""The nouns of the rag service."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar

from errand_common.principal import Principal

from errand_rag.domain.filters import Filter, MetadataType, MetadataValue

T = TypeVar("T")
Vector = Sequence[float]


class DocumentState(StrEnum):
    """Where a document is on its way to the searchers."""

    PENDING = "pending"
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobKind(StrEnum):
    """What a stored job does."""

    INGEST = "ingest"
    PURGE_DOCUMENT = "purge_document"
    PURGE_COLLECTION = "purge_collection"
    REINDEX = "reindex"
    RECONCILE = "reconcile"
    SWEEP_INDEX = "sweep_index"


class SearchMode(StrEnum):
    """How passages are found."""

    HYBRID = "hybrid"
    VECTOR = "vector"
    KEYWORD = "keyword"


@dataclass(frozen=True, slots=True)
class Collection:
    """A tenant's named set of documents; `embedding_model` is empty until something is embedded.

    `revision` grows with everything that changes what a search in it finds. No roles means everyone
    with the scope; a maximum of zero leaves the tenant's alone.
    """

    id: str
    tenant_id: str
    name: str
    description: str
    chunk_tokens: int
    chunk_overlap_tokens: int
    embedding_model: str
    document_count: int
    created_at: datetime
    size_bytes: int = 0
    revision: int = 0
    metadata_schema: Mapping[str, MetadataType] = field(default_factory=dict)
    reader_roles: frozenset[str] = frozenset()
    writer_roles: frozenset[str] = frozenset()
    max_documents: int = 0
    max_bytes: int = 0
    generation: int = 0
    building: int | None = None
    building_model: str = ""
    building_done: int = 0
    chunk_count: int = 0

    @property
    def index(self) -> str:
        """Name of the index that searches use."""
        return index_name(self.id, self.generation)

    @property
    def building_index(self) -> str:
        """Name of the index that is being built; empty when none is."""
        return "" if self.building is None else index_name(self.id, self.building)


def index_name(collection_id: str, generation: int) -> str:
    """What the vector store calls a generation of a collection's index."""
    return f"{collection_id}-g{generation}" if generation else collection_id


def collection_of(index: str) -> str:
    """Id of the collection that an index is some generation of."""
    return index.partition("-g")[0]


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Chunks that had no vector, and vectors that had no chunk."""

    missing_vectors: int
    dead_vectors: int


@dataclass(frozen=True, slots=True)
class NewCollection:
    """A collection as asked for; zero `chunk_tokens` takes the default."""

    name: str
    description: str = ""
    chunk_tokens: int = 0
    chunk_overlap_tokens: int = 0
    metadata_schema: Mapping[str, MetadataType] = field(default_factory=dict)
    reader_roles: frozenset[str] = frozenset()
    writer_roles: frozenset[str] = frozenset()
    max_documents: int = 0
    max_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CollectionChange:
    """What of a collection is to be another; None stays as it is."""

    description: str | None = None
    reader_roles: frozenset[str] | None = None
    writer_roles: frozenset[str] | None = None
    max_documents: int | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """An uploaded document and the state of its ingestion."""

    id: str
    tenant_id: str
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
    created_at: datetime
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    uploaded_by: str = ""


@dataclass(frozen=True, slots=True)
class Upload:
    """One document's bytes with what is known of them before parsing."""

    collection_id: str
    filename: str
    content: bytes
    content_hash: str
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Quota:
    """Most documents and bytes of a tenant."""

    documents: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows of a listing and the position after them, None on the last page."""

    items: tuple[T, ...]
    next_position: str | None


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of parsed text under one heading, on one page (from 1) when there are pages."""

    text: str
    heading: str = ""
    page: int | None = None


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """What a parser found in a document."""

    media_type: str
    sections: tuple[Section, ...]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """Characters [start, end) of the clean text that belong to one section."""

    start: int
    end: int
    heading: str
    page: int | None


@dataclass(frozen=True, slots=True)
class CleanDocument:
    """The text that offsets point into, and its sections."""

    text: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage: `text` equals the clean text's characters [start, end)."""

    id: str
    index: int
    text: str
    start: int
    end: int
    heading: str
    page: int | None


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Which document, how it is cut, and its bounds."""

    document_id: str
    filename: str
    chunk_tokens: int
    chunk_overlap_tokens: int
    max_pages: int
    max_characters: int
    max_chunks: int


@dataclass(frozen=True, slots=True)
class ReadDocument:
    """The clean text and its passages."""

    title: str
    media_type: str
    clean_text: str
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """A stored chunk with what a citation needs of its document."""

    chunk_id: str
    document_id: str
    collection_id: str
    title: str
    filename: str
    page: int | None
    heading: str
    start: int
    end: int
    text: str
    position: int = 0
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Unit vectors in the order of the texts, and the model that made them."""

    vectors: tuple[Vector, ...]
    model: str


@dataclass(frozen=True, slots=True)
class VectorEntry:
    """A chunk's vector as it is stored."""

    chunk_id: str
    document_id: str
    vector: Vector


@dataclass(frozen=True, slots=True)
class VectorMatch:
    """A stored vector near the one asked for; cosine similarity, -1 to 1."""

    chunk_id: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Job:
    """Stored work, done by the one holder of its lease.

    `attempts` counts the times it was taken, this one included; `index` names the vectors it is about.
    """

    id: str
    kind: JobKind
    tenant_id: str
    collection_id: str
    document_id: str
    principal_id: str
    attempts: int
    index: str = ""


@dataclass(frozen=True, slots=True)
class IngestedDocument:
    """All that a finished ingestion stores at once."""

    document_id: str
    read: ReadDocument
    embedding_model: str
    generation: int = 0


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What is looked for; no collections means all of the tenant's, `min_similarity` 0 no bound.

    `diversity` (0 to 1) trades score for unlikeness, `neighbours` asks for chunks around each hit,
    `rerank` for a cross-encoder's order.
    """

    text: str
    collections: tuple[str, ...] = ()
    top_k: int = 5
    mode: SearchMode = SearchMode.HYBRID
    min_similarity: float = 0.0
    where: Filter | None = None
    diversity: float = 0.0
    neighbours: int = 0
    rerank: bool = False


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A passage with its rank score (one answer's scale only) and cosine similarity.

    `rerank_score` is the cross-encoder's, 0 to 1, None where none was asked.
    """

    passage: Passage
    score: float
    similarity: float
    text_before: str = ""
    text_after: str = ""
    rerank_score: float | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits, best first; `degraded` when they come from words alone though vectors were wanted.

    `reranked` when they are in the cross-encoder's order.
    """

    hits: tuple[SearchHit, ...]
    degraded: bool
    reranked: bool = False


@dataclass(frozen=True, slots=True)
class Traces:
    """Where what a deletion removed would show: (collection, document) pairs, collections, indexes."""

    documents: tuple[tuple[str, str], ...] = ()
    collections: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deleted:
    """How much a deletion removes, and its traces."""

    documents: int
    chunks: int
    bytes: int
    traces: Traces


@dataclass(frozen=True, slots=True)
class Proof:
    """One look after a deletion; `found` 0 proves it, unless the removal is `pending`."""

    place: str
    looked_for: int
    found: int
    pending: bool = False


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was deleted, and what looking for it found. It holds no text."""

    id: str
    kind: str
    target_id: str
    requested_by: str
    requested_at: datetime
    deleted: Deleted
    proofs: tuple[Proof, ...] = ()
    proven_at: datetime | None = None

    @property
    def complete(self) -> bool:
        """All looks were made and found nothing."""
        return bool(self.proofs) and not any(proof.found or proof.pending for proof in self.proofs)


def background_principal(job: Job) -> Principal:
    """The document's tenant as it acts in the background: the uploader, for documents alone."""
    return Principal(
        tenant_id=job.tenant_id,
        id=job.principal_id,
        roles=frozenset(),
        scopes=frozenset({"documents"}),
        request_id=job.id,
    )
