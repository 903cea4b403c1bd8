"""Removes the vectors of what is no longer stored."""

import contextlib
from collections.abc import Sequence

from errand_common.errors import Conflict, ErrandError, NotFound

from errand_rag.domain.models import Job, JobKind
from errand_rag.domain.ports import Cache, Collections, Jobs, Scrubber, SharedCache, VectorStore

# Longer than a process is halted that goes on afterwards.
_SWEEP_SECONDS = 3600.0


class Purger:
    """Does the purge jobs: at once when the store answers, else the worker does them later."""

    def __init__(
        self,
        collections: Collections,
        jobs: Jobs,
        vectors: VectorStore,
        scrubber: Scrubber,
        *,
        caches: Sequence[Cache],
        shared_caches: Sequence[SharedCache] = (),
        owner: str,
    ) -> None:
        self._collections = collections
        self._jobs = jobs
        self._vectors = vectors
        self._scrubber = scrubber
        self._caches = caches
        self._shared_caches = shared_caches
        self._owner = owner
        # A former process may have ended between a deletion and its scrubbing.
        self._dirty = True

    async def run(self, job: Job) -> None:
        """Removes what the job names. Raises Unavailable when a store is away, Conflict while others write.

        Whoever begins now finds no rows; whoever read them before may store their vectors after this
        removal. So it is done only when it began with nobody at work, and until then done again.
        """
        if job.attempts <= 1:
            self._dirty = True
        for cache in self._caches:
            cache.forget(job.collection_id)
        others_write = await self._jobs.writing(job)
        if job.kind is JobKind.PURGE_COLLECTION:
            await self._vectors.drop(job.index)
        else:
            await self.purge_document(job)
        for shared in self._shared_caches:
            await shared.forget(job.tenant_id)
        if others_write:
            raise Conflict("vectors of the collection are being stored; what was deleted is removed again after it")
        if job.kind is JobKind.PURGE_COLLECTION:
            await self._jobs.sweep_later(job, delay_seconds=_SWEEP_SECONDS)
        self._dirty = True

    async def sweep(self, job: Job) -> None:
        """Drops an index once more. Raises Unavailable.

        A process that was halted past its lease may have stored into it after it was dropped, and have ended
        before it found that out: nobody reads such an index, and no other job knows of it.
        """
        with contextlib.suppress(NotFound):
            collection = await self._collections.get(job.tenant_id, job.collection_id)
            if job.index in {collection.index, collection.building_index}:
                return
        await self._vectors.drop(job.index)

    async def purge_document(self, job: Job) -> None:
        """Removes a document's vectors from every index that may hold them."""
        for index in await self._collections.indexes(job.tenant_id, job.collection_id):
            await self._vectors.delete_document(index, job.document_id)

    async def try_now(self, job: Job) -> None:
        """Does a job that was just stored with this owner's lease; a failure leaves it stored."""
        try:
            await self.run(job)
        except ErrandError:
            await self._jobs.postpone(job.id, self._owner, delay_seconds=1.0)
            return
        await self._jobs.done(job.id, self._owner)

    async def scrub_if_needed(self) -> None:
        """Called when there is nothing else to do: once for all deletions since the last time."""
        if self._dirty:
            self._dirty = False
            await self._scrubber.scrub()
            await self._vectors.compact()
