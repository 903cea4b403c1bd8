"""Documents: upload, read, list, delete, retry."""

import hashlib
from collections.abc import Callable

from errand_rag.domain.access import may_use_documents
from errand_rag.domain.filenames import safe_filename
from errand_rag.domain.models import Document, Page, Upload
from errand_rag.domain.ports import Collections, Documents
from errand_rag.domain.purging import Purger


class DocumentService:
    """The use cases of documents, for the calling principal's tenant."""

    def __init__(
        self,
        collections: Collections,
        documents: Documents,
        purger: Purger,
        *,
        on_stored: Callable[[], None],
        max_documents: int,
    ) -> None:
        self._collections = collections
        self._documents = documents
        self._purger = purger
        self._on_stored = on_stored
        self._max_documents = max_documents

    async def open_upload(self, collection: str) -> str:
        """The id of the collection an upload goes to, before its bytes are read.

        Raises NotFound, PermissionDenied.
        """
        tenant_id = may_use_documents().tenant_id
        return (await self._collections.get(tenant_id, collection)).id

    async def upload(self, collection_id: str, filename: str, content: bytes) -> tuple[Document, bool]:
        """Stores the bytes and the job that ingests them; True for bytes that were there already.

        Raises NotFound, QuotaExceeded, PermissionDenied.
        """
        principal = may_use_documents()
        upload = Upload(
            collection_id=collection_id,
            filename=safe_filename(filename),
            content=content,
            content_hash=hashlib.sha256(content).hexdigest(),
        )
        document, duplicate = await self._documents.add(
            principal.tenant_id, upload, principal_id=principal.id, limit=self._max_documents
        )
        if not duplicate:
            self._on_stored()
        return document, duplicate

    async def get(self, document_id: str) -> Document:
        """Raises NotFound, PermissionDenied."""
        return await self._documents.get(may_use_documents().tenant_id, document_id)

    async def list_page(self, collection: str, *, size: int, position: str | None) -> Page[Document]:
        """Newest first. Raises NotFound, PermissionDenied."""
        tenant_id = may_use_documents().tenant_id
        found = await self._collections.get(tenant_id, collection)
        return await self._documents.list_page(tenant_id, found.id, size=size, position=position)

    async def delete(self, document_id: str) -> None:
        """Rows go at once; vectors too, or as soon as their store answers. Raises NotFound."""
        principal = may_use_documents()
        job = await self._documents.delete(principal.tenant_id, document_id, principal_id=principal.id)
        await self._purger.try_now(job)

    async def retry(self, document_id: str) -> Document:
        """Raises NotFound, Conflict when it did not fail, PermissionDenied."""
        principal = may_use_documents()
        document = await self._documents.retry(principal.tenant_id, document_id, principal_id=principal.id)
        self._on_stored()
        return document
