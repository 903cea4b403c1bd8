"""Collections: make, read, list, delete."""

from dataclasses import replace

from errand_common.errors import InvalidArgument

from errand_rag.domain.access import may_use_documents
from errand_rag.domain.chunking import DEFAULT_CHUNK_TOKENS, MIN_CHUNK_TOKENS
from errand_rag.domain.cleaning import clean_text
from errand_rag.domain.models import Collection, NewCollection, Page
from errand_rag.domain.ports import Collections
from errand_rag.domain.purging import Purger


class CollectionService:
    """The use cases of collections, for the calling principal's tenant."""

    def __init__(self, collections: Collections, purger: Purger, *, max_collections: int) -> None:
        self._collections = collections
        self._purger = purger
        self._max_collections = max_collections

    async def create(self, new: NewCollection) -> Collection:
        """Raises InvalidArgument, AlreadyExists, QuotaExceeded, PermissionDenied."""
        principal = may_use_documents()
        tokens = new.chunk_tokens or DEFAULT_CHUNK_TOKENS
        if tokens < MIN_CHUNK_TOKENS:
            raise InvalidArgument(
                f"chunk_tokens is {tokens}; give 32 to 256, or 0 for {DEFAULT_CHUNK_TOKENS}",
                field="collection.chunk_tokens",
                rule="uint32.gte",
            )
        if new.chunk_overlap_tokens > tokens // 2:
            raise InvalidArgument(
                f"chunk_overlap_tokens is more than half of chunk_tokens ({tokens}); lower it",
                field="collection.chunk_overlap_tokens",
                rule="uint32.lte",
            )
        described = replace(new, chunk_tokens=tokens, description=clean_text(new.description))
        return await self._collections.create(principal.tenant_id, described, limit=self._max_collections)

    async def get(self, name_or_id: str) -> Collection:
        """Raises NotFound, PermissionDenied."""
        return await self._collections.get(may_use_documents().tenant_id, name_or_id)

    async def list_page(self, *, size: int, position: str | None) -> Page[Collection]:
        """Oldest first. Raises PermissionDenied."""
        tenant_id = may_use_documents().tenant_id
        return await self._collections.list_page(tenant_id, size=size, position=position)

    async def delete(self, name_or_id: str) -> None:
        """Rows go at once; vectors too, or as soon as their store answers. Raises NotFound."""
        principal = may_use_documents()
        job = await self._collections.delete(principal.tenant_id, name_or_id, principal_id=principal.id)
        await self._purger.try_now(job)
