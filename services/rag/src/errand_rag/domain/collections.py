"""Collections: make, read, list, change."""

from dataclasses import replace

from errand_common.errors import InvalidArgument, NotFound, PermissionDenied

from errand_rag.domain.access import check_readable, check_writable, may_use_documents, readable
from errand_rag.domain.chunking import DEFAULT_CHUNK_TOKENS, MIN_CHUNK_TOKENS
from errand_rag.domain.cleaning import clean_text
from errand_rag.domain.filters import check_schema
from errand_rag.domain.models import Collection, CollectionChange, NewCollection, Page
from errand_rag.domain.ports import Collections


class CollectionService:
    """The use cases of collections, for the calling principal's tenant."""

    def __init__(self, collections: Collections, *, max_collections: int) -> None:
        self._collections = collections
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
        check_schema(new.metadata_schema)
        described = replace(new, chunk_tokens=tokens, description=clean_text(new.description))
        return await self._collections.create(principal.tenant_id, described, limit=self._max_collections)

    async def get(self, name_or_id: str) -> Collection:
        """Raises NotFound, PermissionDenied."""
        principal = may_use_documents()
        return check_readable(principal, await self._collections.get(principal.tenant_id, name_or_id))

    async def list_page(self, *, size: int, position: str | None) -> Page[Collection]:
        """Oldest first, those that may be read: a page may hold fewer. Raises PermissionDenied."""
        principal = may_use_documents()
        page = await self._collections.list_page(principal.tenant_id, size=size, position=position)
        return replace(page, items=readable(principal, page.items))

    async def update(self, name_or_id: str, change: CollectionChange) -> Collection:
        """Raises NotFound, PermissionDenied, InvalidArgument for roles that shut the caller out."""
        principal = may_use_documents()
        found = check_writable(principal, await self._collections.get(principal.tenant_id, name_or_id))
        try:
            check_writable(principal, _with_roles(found, change))
        except (NotFound, PermissionDenied):
            raise InvalidArgument(
                "with these roles you could not change the collection any more; leave one of yours in writer_roles",
                field="writer_roles",
                rule="writer_roles.caller",
            ) from None
        if change.description is not None:
            change = replace(change, description=clean_text(change.description))
        return await self._collections.update(principal.tenant_id, found.id, change)


def _with_roles(collection: Collection, change: CollectionChange) -> Collection:
    return replace(
        collection,
        reader_roles=collection.reader_roles if change.reader_roles is None else change.reader_roles,
        writer_roles=collection.writer_roles if change.writer_roles is None else change.writer_roles,
    )
