"""Where uploads go."""

from collections.abc import AsyncIterator
from typing import Final

from errand_common.errors import AlreadyExists, NotFound

from errand_gateway.domain.documents import DocumentBackend, NewCollection, NewDocument, StoredDocument

DEFAULT_COLLECTION: Final = "default"


async def store_document(
    documents: DocumentBackend, collection: str, new: NewDocument, data: AsyncIterator[bytes]
) -> StoredDocument:
    """Stores a document; a collection named "default" is made when it is missing."""
    if collection == DEFAULT_COLLECTION:
        await _ensure_default(documents)
    return await documents.upload(collection, new, data)


async def _ensure_default(documents: DocumentBackend) -> None:
    try:
        await documents.get_collection(DEFAULT_COLLECTION)
    except NotFound:
        try:
            await documents.create_collection(NewCollection(DEFAULT_COLLECTION))
        except AlreadyExists:
            # Another upload was first.
            return
