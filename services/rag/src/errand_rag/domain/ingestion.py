"""One document's way from bytes to searchable passages."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from errand_common.errors import NotFound

from errand_rag.domain.chunking import embedding_text
from errand_rag.domain.errors import DocumentRejected
from errand_rag.domain.models import (
    Chunk,
    Collection,
    Embeddings,
    IngestedDocument,
    Job,
    ReadDocument,
    ReadRequest,
    VectorEntry,
)
from errand_rag.domain.ports import (
    Collections,
    DocumentReader,
    Documents,
    Embedder,
    TokenCounter,
    VectorStore,
)
from errand_rag.domain.purging import Purger

_READ_PERCENT = 10
_EMBEDDED_PERCENT = 95


@dataclass(frozen=True, slots=True)
class IngestionLimits:
    """Bounds on one document."""

    max_pages: int = 5000
    max_characters: int = 10_000_000
    max_chunks: int = 20_000
    embed_batch: int = 32


class _Gone(Exception):  # noqa: N818 - a state, not a fault
    """The document was deleted meanwhile."""


class _Behind:
    """Work that goes on while the next is prepared, one piece at a time. None is left when the block ends, by whatever.

    A document that was deleted meanwhile is purged after that: a vector on its way would come after the purge.
    """

    def __init__(self) -> None:
        self._work: asyncio.Task[None] | None = None

    async def begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begins it when the one before has ended; raises what that raised."""
        await self._ended()
        self._work = asyncio.create_task(work())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._ended()

    async def _ended(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            await work


class Ingestion:
    """Parses, cleans, cuts, embeds and stores. Safe to run again from the start at any time."""

    def __init__(
        self,
        *,
        collections: Collections,
        documents: Documents,
        reader: DocumentReader,
        counter: TokenCounter,
        embedder: Embedder,
        vectors: VectorStore,
        purger: Purger,
        limits: IngestionLimits,
    ) -> None:
        self._collections = collections
        self._documents = documents
        self._reader = reader
        self._counter = counter
        self._embedder = embedder
        self._vectors = vectors
        self._purger = purger
        self._limits = limits

    async def run(self, job: Job) -> None:
        """Ingests the job's document; one that was deleted meanwhile leaves no vector behind.

        Raises DocumentRejected when it cannot be ingested, ErrandError when it may work later.
        """
        try:
            collection = await self._collections.get(job.tenant_id, job.collection_id)
        except NotFound:
            return  # its deletion takes the whole index
        try:
            await self._ingest(job, collection)
        except (_Gone, NotFound):
            await self._purger.purge_document(job)

    async def _ingest(self, job: Job, collection: Collection) -> None:
        await self._report(job, 1)
        read = await self._read(job, collection)
        await self._report(job, _READ_PERCENT)
        model = await self._embed_all(job, collection, read)
        await self._documents.complete(
            job.tenant_id,
            IngestedDocument(
                document_id=job.document_id, read=read, embedding_model=model, generation=collection.generation
            ),
            principal_id=job.principal_id,
        )

    async def _read(self, job: Job, collection: Collection) -> ReadDocument:
        document = await self._documents.get(job.tenant_id, job.document_id)
        content = await self._documents.content(job.tenant_id, job.document_id)
        request = ReadRequest(
            document_id=job.document_id,
            filename=document.filename,
            chunk_tokens=collection.chunk_tokens,
            chunk_overlap_tokens=collection.chunk_overlap_tokens,
            max_pages=self._limits.max_pages,
            max_characters=self._limits.max_characters,
            max_chunks=self._limits.max_chunks,
        )
        return await self._reader.read(content, request)

    async def _embed_all(self, job: Job, collection: Collection, read: ReadDocument) -> str:
        """Embeds what an earlier attempt did not, a batch while the one before is stored; returns the model's name."""
        model = collection.embedding_model
        chunks, batch = read.chunks, self._limits.embed_batch
        async with _Behind() as storing:
            for start in range(0, len(chunks), batch):
                part = chunks[start : start + batch]
                there = await self._vectors.existing(collection.index, [chunk.id for chunk in part]) if model else set()
                missing = [chunk for chunk in part if chunk.id not in there]
                if missing:
                    made = await self._embed(model, read.title, missing)
                    model = made.model
                    await storing.begin(partial(self._store, job, collection.index, missing, made))
                done = (start + len(part)) / len(chunks)
                span = _EMBEDDED_PERCENT - _READ_PERCENT
                await self._report(job, _READ_PERCENT + int(span * done))
        return model

    async def _embed(self, model: str, title: str, chunks: Sequence[Chunk]) -> Embeddings:
        texts = [embedding_text(chunk, title, self._counter) for chunk in chunks]
        made = await self._embedder.embed(texts, model=model)
        if model and made.model != model:
            raise DocumentRejected(
                f"the collection was embedded with '{model}' but '{made.model}' is served now; "
                "serve the former model, or upload into a new collection"
            )
        return made

    async def _store(self, job: Job, index: str, chunks: Sequence[Chunk], made: Embeddings) -> None:
        await self._vectors.upsert(
            index,
            [
                VectorEntry(chunk_id=chunk.id, document_id=job.document_id, vector=vector)
                for chunk, vector in zip(chunks, made.vectors, strict=True)
            ],
        )

    async def _report(self, job: Job, percent: int) -> None:
        if not await self._documents.progress(job.tenant_id, job.document_id, percent):
            raise _Gone
