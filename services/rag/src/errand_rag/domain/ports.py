"""What the use cases need of the world."""

from collections.abc import Collection as Group
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from errand_rag.domain.filters import Filter
from errand_rag.domain.models import (
    Certificate,
    Collection,
    CollectionChange,
    Deleted,
    Document,
    DocumentState,
    Embeddings,
    IngestedDocument,
    Job,
    NewCollection,
    Page,
    Passage,
    Quota,
    ReadDocument,
    ReadRequest,
    Traces,
    Upload,
    Vector,
    VectorEntry,
    VectorMatch,
)


class Embedder(Protocol):
    """Turns texts into unit vectors."""

    async def embed(self, texts: Sequence[str], *, model: str) -> Embeddings:
        """Embeds 1 to 64 texts with `model`, or the default for an empty name.

        Raises Unavailable, Overloaded or DeadlineExceeded when it may work later, ModelUnavailable
        when the model is not served.
        """


class Reranker(Protocol):
    """Reads a query together with each of some texts."""

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each of 1 to 256 texts answers the query, 0 to 1.

        Raises Unavailable, Overloaded or DeadlineExceeded when it may work later, ModelUnavailable
        when no cross-encoder is served.
        """


class TokenCounter(Protocol):
    """Counts tokens as the embedding model does."""

    def count(self, text: str) -> int:
        """Tokens of the text, the two marks at its ends not counted."""


class DocumentReader(Protocol):
    """Reads passages out of untrusted bytes, bounded in time and memory."""

    async def read(self, content: bytes, request: ReadRequest) -> ReadDocument:
        """Raises DocumentRejected with a reason for a person."""


class WebFetcher(Protocol):
    """Fetches what others name, from where the operator allows."""

    async def get(self, url: str) -> bytes:
        """The content. Raises InvalidArgument naming `url`, TooLarge, Unavailable, Unsupported when turned off."""


class VectorStore(Protocol):
    """Vectors by collection, cosine space. Every method raises Unavailable when it is away."""

    async def upsert(self, collection_id: str, entries: Sequence[VectorEntry]) -> None:
        """Stores the entries; same chunk id replaces."""

    async def query(
        self, collection_id: str, vector: Vector, limit: int, *, documents: Group[str] | None = None
    ) -> list[VectorMatch]:
        """The nearest, of these documents when they are given, best first; none when there are none."""

    async def fetch(self, collection_id: str, chunk_ids: Sequence[str]) -> dict[str, Vector]:
        """The vectors of the chunks that are stored."""

    async def similarities(self, collection_id: str, vector: Vector, chunk_ids: Sequence[str]) -> dict[str, float]:
        """Cosine similarity of the chunks that are stored."""

    async def existing(self, collection_id: str, chunk_ids: Sequence[str]) -> set[str]:
        """Which of the chunks have a vector."""

    async def chunk_documents(self, collection_id: str) -> dict[str, str]:
        """The document of every chunk that is stored."""

    async def delete_chunks(self, collection_id: str, chunk_ids: Sequence[str]) -> None:
        """Removes these chunks' vectors; nothing to remove is fine."""

    async def compact(self) -> None:
        """Gives back the space of what was dropped, as far as the store can."""

    async def count_document(self, collection_id: str, document_id: str) -> int:
        """Vectors of one document."""

    async def delete_document(self, collection_id: str, document_id: str) -> None:
        """Removes a document's vectors; nothing to remove is fine."""

    async def drop(self, collection_id: str) -> None:
        """Removes the collection's index; nothing to remove is fine."""

    async def count(self, collection_id: str) -> int:
        """Vectors in the collection."""

    async def indexes(self, collection_ids: Group[str]) -> frozenset[str]:
        """Names of all generations of these collections' indexes that are stored."""

    async def ping(self) -> None:
        """Raises Unavailable when the store cannot answer."""


class Collections(Protocol):
    """Stored collections. Each method is one transaction."""

    async def create(self, tenant_id: str, new: NewCollection, *, limit: int) -> Collection:
        """Raises AlreadyExists for a taken name, QuotaExceeded past `limit` collections."""

    async def get(self, tenant_id: str, name_or_id: str) -> Collection:
        """Raises NotFound."""

    async def list_page(self, tenant_id: str, *, size: int, position: str | None) -> Page[Collection]:
        """Oldest first."""

    async def resolve(self, tenant_id: str, names_or_ids: Sequence[str]) -> tuple[Collection, ...]:
        """The named ones, or all for none named, their counts left at 0. Raises NotFound for an unknown one."""

    async def update(self, tenant_id: str, collection_id: str, change: CollectionChange) -> Collection:
        """Raises NotFound."""

    async def delete(self, tenant_id: str, name_or_id: str, *, principal_id: str) -> Job:
        """Removes all rows and stores the job that removes the vectors. Raises NotFound."""

    async def indexes(self, tenant_id: str, collection_id: str) -> frozenset[str]:
        """All that may hold vectors of it: in use, being built, waiting to be dropped. It may be deleted."""

    async def drop_unknown(
        self, tenant_id: str, collection_id: str, stored: frozenset[str], *, principal_id: str
    ) -> frozenset[str]:
        """Stores the jobs that drop those of the stored indexes that nothing refers to, and gives them.

        Raises NotFound.
        """

    async def start_reconciling(self, tenant_id: str, collection_id: str, *, principal_id: str) -> Job:
        """Stores a job that the caller does himself: deletions wait for it, a crash leaves it to the worker."""

    async def start_building(self, tenant_id: str, collection_id: str, model: str, *, principal_id: str) -> Collection:
        """Stores the job that builds the next index. Raises NotFound, Conflict when one is being built."""

    async def report_building(self, tenant_id: str, collection_id: str, done: int) -> None:
        """Notes how many chunks the new index has."""

    async def finish_building(
        self, tenant_id: str, collection_id: str, done: frozenset[str], *, principal_id: str
    ) -> frozenset[str]:
        """Switches when `done` holds every chunk, else gives those it lacks. Raises NotFound."""

    async def abandon_building(self, tenant_id: str, collection_id: str, *, principal_id: str) -> None:
        """Gives up the index that is being built. Raises NotFound."""

    async def unfinished_documents(self, tenant_id: str, collection_id: str) -> frozenset[str]:
        """Documents whose vectors may be stored before their rows."""


class Documents(Protocol):
    """Stored documents and chunks. Each method is one transaction."""

    async def add(self, tenant_id: str, upload: Upload, *, principal_id: str, quota: Quota) -> tuple[Document, bool]:
        """Stores bytes, document and job together; or returns the duplicate and True.

        Raises NotFound when the collection went away, QuotaExceeded past the tenant's `quota` or the
        collection's own.
        """

    async def get(self, tenant_id: str, document_id: str) -> Document:
        """Raises NotFound."""

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

    async def content(self, tenant_id: str, document_id: str) -> bytes:
        """The uploaded bytes. Raises NotFound."""

    async def clean_text(self, tenant_id: str, document_id: str) -> str:
        """The text that offsets point into; empty before the document is ready."""

    async def progress(self, tenant_id: str, document_id: str, percent: int) -> bool:
        """Marks it PROCESSING; False when it is gone or was cancelled."""

    async def complete(self, tenant_id: str, ingested: IngestedDocument, *, principal_id: str) -> None:
        """Makes it READY and replaces older documents of its file name, in one transaction.

        Raises Conflict when the index it was embedded into is not in use any more, NotFound when it
        is gone: deleted, cancelled, or a newer document of its name was first.
        """

    async def fail(self, tenant_id: str, document_id: str, reason: str) -> None:
        """Marks it FAILED, unless it was cancelled."""

    async def retry(self, tenant_id: str, document_id: str, *, principal_id: str) -> Document:
        """Makes a failed or cancelled one PENDING again. Raises NotFound, Conflict when it is neither."""

    async def cancel(self, tenant_id: str, document_id: str) -> Document:
        """Makes it CANCELLED; a running ingestion finds out. Raises NotFound, Conflict when it ended."""

    async def delete(self, tenant_id: str, document_id: str, *, principal_id: str) -> Job:
        """Removes all rows and stores the job that removes the vectors. Raises NotFound."""


class Passages(Protocol):
    """Stored chunks as searchers see them: only those of ready documents."""

    async def by_keywords(
        self,
        tenant_id: str,
        collection_ids: Sequence[str],
        terms: Sequence[str],
        limit: int,
        where: Filter | None = None,
    ) -> Mapping[str, float]:
        """Ids of chunks that hold any of the terms with their rank score, best first."""

    async def by_ids(
        self, tenant_id: str, collection_ids: Sequence[str], chunk_ids: Iterable[str], where: Filter | None = None
    ) -> Mapping[str, Passage]:
        """Those of the chunks whose rows exist and whose documents match."""

    async def documents_matching(
        self, tenant_id: str, collection_ids: Sequence[str], where: Filter, limit: int
    ) -> frozenset[str] | None:
        """Ids of the documents that match; None when they are more than `limit`."""

    async def chunk_ids(self, tenant_id: str, collection_id: str) -> frozenset[str]:
        """All chunks of a collection."""

    async def around(self, tenant_id: str, passages: Sequence[Passage], reach: int) -> Sequence[Passage]:
        """The chunks at most `reach` places before and after each passage in its document."""


class Certificates(Protocol):
    """Stored certificates of deletions, and the looks that prove them."""

    async def measure(
        self, tenant_id: str, *, document_id: str, collection_ids: Sequence[str] | None, uploaded_by: str
    ) -> Deleted:
        """What is about to go: one document, collections, or what a principal uploaded."""

    async def create(
        self, tenant_id: str, *, kind: str, target_id: str, requested_by: str, deleted: Deleted
    ) -> Certificate:
        """Stores one without proofs."""

    async def prove(self, tenant_id: str, certificate: Certificate) -> Certificate:
        """Stores the proofs with the time."""

    async def get(self, tenant_id: str, certificate_id: str) -> Certificate:
        """Raises NotFound."""

    async def list_page(self, tenant_id: str, *, size: int, position: str | None) -> Page[Certificate]:
        """Newest first."""

    async def deleted_collections(self, tenant_id: str) -> frozenset[str]:
        """Ids of all collections whose deletion was ever asked for."""

    async def rows_left(self, tenant_id: str, traces: Traces) -> int:
        """Rows of documents, contents, chunks and collections that should be gone."""

    async def words_left(self, tenant_id: str) -> int:
        """Entries of the keyword index without a chunk."""

    async def removal_stored(self, tenant_id: str, traces: Traces) -> bool:
        """Whether a job is stored that removes vectors of these."""


class Jobs(Protocol):
    """The durable queue. Each method is one transaction."""

    async def claim(self, owner: str, *, lease_seconds: float) -> Job | None:
        """Leases the most urgent job, of those the one that waits longest; a lease that ran out is none."""

    async def renew(self, job_id: str, owner: str, *, lease_seconds: float) -> bool:
        """False when another holds it by now."""

    async def done(self, job_id: str, owner: str) -> None:
        """Removes it."""

    async def postpone(self, job_id: str, owner: str, *, delay_seconds: float) -> None:
        """Gives it back, to be taken after the delay."""

    async def release(self, job_id: str, owner: str) -> None:
        """Gives it back as if never taken."""

    async def writing(self, purge: Job) -> bool:
        """Whether a job is at work that may store vectors of what this one removes."""

    async def sweep_later(self, purge: Job, *, delay_seconds: float) -> None:
        """Stores the job that drops the index once more, unless it is stored."""

    async def release_owner(self, owner: str) -> int:
        """Gives back what a former process of this name held."""


class Scrubber(Protocol):
    """Makes deletion reach the files."""

    async def scrub(self) -> None:
        """Overwrites what deleted text left behind."""


class Cache(Protocol):
    """Something in memory that may hold what is deleted."""

    def forget(self, collection_id: str) -> None:
        """Drops what may be of this collection."""


class SharedCache(Protocol):
    """Something that all replicas share and that may hold what is deleted."""

    async def forget(self, tenant_id: str) -> None:
        """Drops all of a tenant. Raises Unavailable."""
