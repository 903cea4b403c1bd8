"""Builds a collection's index anew while searches use the old one, and repairs an index in place."""

import contextlib
from collections.abc import Iterable, Sequence
from logging import getLogger

from errand_common.errors import Conflict, ModelUnavailable, NotFound

from errand_rag.domain.access import check_writable, may_use_documents
from errand_rag.domain.chunking import embedding_text
from errand_rag.domain.models import Chunk, Collection, Job, Passage, Reconciliation, Vector, VectorEntry
from errand_rag.domain.ports import Certificates, Collections, Embedder, Jobs, Passages, TokenCounter, VectorStore

_logger = getLogger(__name__)
_PAGE = 500


class Reindexing:
    """One mechanism for another embedding model, for dropping dead space, and for lost vectors.

    The rows are the truth: the new index has a vector for each of them, copied from the old one
    when the model stays, embedded otherwise. Searchers see the switch as one change of a row.
    """

    def __init__(
        self,
        *,
        collections: Collections,
        jobs: Jobs,
        passages: Passages,
        certificates: Certificates,
        vectors: VectorStore,
        embedder: Embedder,
        counter: TokenCounter,
        batch: int,
        owner: str,
    ) -> None:
        self._collections = collections
        self._jobs = jobs
        self._passages = passages
        self._certificates = certificates
        self._vectors = vectors
        self._embedder = embedder
        self._counter = counter
        self._batch = batch
        self._owner = owner

    async def start(self, name_or_id: str, model: str) -> Collection:
        """Stores the job that builds; the model in use for an empty name. Raises NotFound, Conflict."""
        principal = may_use_documents()
        collection = check_writable(principal, await self._collections.get(principal.tenant_id, name_or_id))
        return await self._collections.start_building(
            principal.tenant_id, collection.id, model or collection.embedding_model, principal_id=principal.id
        )

    async def run(self, job: Job) -> None:
        """Builds until nothing is missing, then switches. Safe to run again from the start.

        What is deleted meanwhile may come into the new index: its purge waits for this job to end.
        """
        with contextlib.suppress(NotFound):  # deleted meanwhile
            collection = await self._collections.get(job.tenant_id, job.collection_id)
            if collection.building is not None:
                await self._build(job, collection)

    async def repair(self, job: Job) -> None:
        """Does the reconciliation that a process began and did not end."""
        with contextlib.suppress(NotFound):
            collection = await self._collections.get(job.tenant_id, job.collection_id)
            await self._repair(collection, job.principal_id)

    async def _build(self, job: Job, collection: Collection) -> None:
        done: set[str] = set()
        missing = await self._passages.chunk_ids(job.tenant_id, collection.id)
        while True:
            try:
                await self._copy(collection, sorted(missing), done)
            except (ModelUnavailable, Conflict) as fault:
                # Trying again does not help: the old index stays.
                _logger.warning("the index of %s is not built anew: %s", collection.id, fault)
                await self._collections.abandon_building(job.tenant_id, collection.id, principal_id=job.principal_id)
                return
            missing = await self._collections.finish_building(
                job.tenant_id, collection.id, frozenset(done), principal_id=job.principal_id
            )
            if not missing:
                return

    async def reconcile(self, name_or_id: str, *, dry_run: bool) -> Reconciliation:
        """Compares rows and vectors; embeds what is missing, removes what is dead, with indexes left over.

        Those of collections that the tenant deleted are among these.
        """
        principal = may_use_documents()
        collection = check_writable(principal, await self._collections.get(principal.tenant_id, name_or_id))
        if dry_run:
            missing, dead = await self._differences(collection)
            left_over = await self._left_over(collection) | await self._of_deleted(collection.tenant_id)
            return Reconciliation(missing_vectors=len(missing), dead_vectors=len(dead) + await self._count(left_over))
        job = await self._collections.start_reconciling(collection.tenant_id, collection.id, principal_id=principal.id)
        try:
            return await self._repair(collection, principal.id)
        finally:
            await self._jobs.done(job.id, self._owner)

    async def _repair(self, collection: Collection, principal_id: str) -> Reconciliation:
        missing, dead = await self._differences(collection)
        for start in range(0, len(missing), self._batch):
            page = await self._rows(collection, missing[start : start + self._batch])
            await self._store(collection.index, page, await self._embed(page, collection.embedding_model))
        await self._vectors.delete_chunks(collection.index, dead)
        left_over = await self._left_over(collection)
        if left_over:
            # Dropped by jobs, which wait for this one and hold the names until then.
            left_over = await self._collections.drop_unknown(
                collection.tenant_id, collection.id, left_over, principal_id=principal_id
            )
        of_deleted = await self._of_deleted(collection.tenant_id)
        in_others = await self._count(left_over | of_deleted)
        for index in of_deleted:
            await self._vectors.drop(index)
        return Reconciliation(missing_vectors=len(missing), dead_vectors=len(dead) + in_others)

    async def _left_over(self, collection: Collection) -> frozenset[str]:
        """Indexes that nothing refers to: a store that was restored to an earlier time has them back."""
        # The store first: an index that is made after this is of a generation that is known by then.
        stored = await self._vectors.indexes({collection.id})
        return stored - await self._collections.indexes(collection.tenant_id, collection.id)

    async def _of_deleted(self, tenant_id: str) -> frozenset[str]:
        """Indexes of collections that are deleted, as such a store has them back too."""
        deleted = await self._certificates.deleted_collections(tenant_id)
        # A certificate is stored before its collection goes; an id that is gone never comes back.
        there = {collection.id for collection in await self._collections.resolve(tenant_id, ())}
        return await self._vectors.indexes(deleted - there)

    async def _count(self, indexes: Iterable[str]) -> int:
        return sum([await self._vectors.count(index) for index in indexes])

    async def _differences(self, collection: Collection) -> tuple[list[str], list[str]]:
        """Chunks without a vector, and vectors without a chunk."""
        # Vectors first: one whose row is committed after this is of an ingestion under way.
        stored = await self._vectors.chunk_documents(collection.index)
        rows = await self._passages.chunk_ids(collection.tenant_id, collection.id)
        underway = await self._collections.unfinished_documents(collection.tenant_id, collection.id)
        dead = (id_ for id_, document in stored.items() if id_ not in rows and document not in underway)
        return sorted(rows - stored.keys()), sorted(dead)

    async def _copy(self, collection: Collection, ids: Sequence[str], done: set[str]) -> None:
        target, model = collection.building_index, collection.building_model
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            wanted = sorted(set(page) - await self._vectors.existing(target, page))
            known: dict[str, Vector] = {}
            if wanted and model == collection.embedding_model:
                known = await self._vectors.fetch(collection.index, wanted)
            rows = await self._rows(collection, wanted)
            await self._store(target, [row for row in rows if row.chunk_id in known], known)
            unknown = [row for row in rows if row.chunk_id not in known]
            for first in range(0, len(unknown), self._batch):
                batch = unknown[first : first + self._batch]
                await self._store(target, batch, await self._embed(batch, model))
            done.update(page)
            await self._collections.report_building(collection.tenant_id, collection.id, len(done))

    async def _rows(self, collection: Collection, ids: Sequence[str]) -> list[Passage]:
        return list((await self._passages.by_ids(collection.tenant_id, [collection.id], ids)).values())

    async def _embed(self, rows: Sequence[Passage], model: str) -> dict[str, Vector]:
        if not rows:
            return {}
        made = await self._embedder.embed([self._text(row) for row in rows], model=model)
        if model and made.model != model:
            raise Conflict(f"the model '{made.model}' is served, not '{model}'; serve it or reindex with another")
        return dict(zip((row.chunk_id for row in rows), made.vectors, strict=True))

    def _text(self, row: Passage) -> str:
        chunk = Chunk(row.chunk_id, row.position, row.text, row.start, row.end, row.heading, row.page)
        return embedding_text(chunk, row.title, self._counter)

    async def _store(self, index: str, rows: Sequence[Passage], vectors: dict[str, Vector]) -> None:
        entries = [VectorEntry(row.chunk_id, row.document_id, vectors[row.chunk_id]) for row in rows]
        if entries:
            await self._vectors.upsert(index, entries)
