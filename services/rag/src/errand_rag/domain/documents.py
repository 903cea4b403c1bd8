"""Documents: upload, read, list, watch, cancel, retry."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from errand_common.errors import ErrandError
from errand_common.principal import Principal

from errand_rag.domain.access import check_readable, check_writable, may_use_documents
from errand_rag.domain.cleaning import clean_text
from errand_rag.domain.filenames import safe_filename
from errand_rag.domain.filters import MetadataValue, check_metadata
from errand_rag.domain.models import Collection, Document, DocumentState, Page, Quota, Upload
from errand_rag.domain.ports import Collections, Documents

_ENDED = (DocumentState.READY, DocumentState.FAILED, DocumentState.CANCELLED)
_WATCH_SECONDS = 0.2
_RETRIED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """What the uploader says of a document besides its name; higher priority is ingested sooner."""

    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    priority: int = 0


class DocumentService:
    """The use cases of documents, for the calling principal's tenant.

    Every method raises NotFound for what is not there or may not be read, PermissionDenied.
    """

    def __init__(
        self,
        collections: Collections,
        documents: Documents,
        *,
        on_stored: Callable[[], None],
        quota: Quota,
    ) -> None:
        self._collections = collections
        self._documents = documents
        self._on_stored = on_stored
        self._quota = quota

    async def open_upload(self, collection: str, options: UploadOptions) -> str:
        """The id of the collection an upload goes to, before its bytes are read.

        Raises InvalidArgument for metadata outside the collection's schema.
        """
        principal = may_use_documents()
        found = check_writable(principal, await self._collections.get(principal.tenant_id, collection))
        check_metadata(options.metadata, found.metadata_schema)
        return found.id

    async def upload(
        self, collection_id: str, filename: str, content: bytes, options: UploadOptions | None = None
    ) -> tuple[Document, bool]:
        """Stores the bytes and the job that ingests them; True for bytes that were there already.

        Raises QuotaExceeded.
        """
        principal = may_use_documents()
        options = options or UploadOptions()
        upload = Upload(
            collection_id=collection_id,
            filename=safe_filename(filename),
            content=content,
            content_hash=hashlib.sha256(content).hexdigest(),
            metadata={name: _clean(value) for name, value in options.metadata.items()},
            priority=options.priority,
        )
        document, duplicate = await self._documents.add(
            principal.tenant_id, upload, principal_id=principal.id, quota=self._quota
        )
        if not duplicate:
            self._on_stored()
        return document, duplicate

    async def get(self, document_id: str) -> Document:
        """One document."""
        document, _ = await self._readable(may_use_documents(), document_id)
        return document

    async def watch(self, document_id: str) -> AsyncIterator[Document]:
        """The document each time its state or progress changed, last when it has ended."""
        principal = may_use_documents()
        document, _ = await self._readable(principal, document_id)
        yield document
        while document.state not in _ENDED:
            await asyncio.sleep(_WATCH_SECONDS)
            # Another replica may do the work: the row is what both can see.
            now = await self._documents.get(principal.tenant_id, document_id)
            if now != document:
                document = now
                yield document

    async def list_page(
        self, collection: str, *, size: int, position: str | None, state: DocumentState | None = None
    ) -> Page[Document]:
        """Newest first, those in a state when one is given."""
        principal = may_use_documents()
        found = check_readable(principal, await self._collections.get(principal.tenant_id, collection))
        return await self._documents.list_page(principal.tenant_id, found.id, size=size, position=position, state=state)

    async def cancel(self, document_id: str) -> Document:
        """Stops an ingestion; what it stored of vectors goes. Raises Conflict when it has ended."""
        principal = may_use_documents()
        await self._writable(principal, document_id)
        document = await self._documents.cancel(principal.tenant_id, document_id)
        self._on_stored()
        return document

    async def retry(self, document_id: str) -> Document:
        """Raises Conflict when it neither failed nor was cancelled."""
        principal = may_use_documents()
        await self._writable(principal, document_id)
        document = await self._documents.retry(principal.tenant_id, document_id, principal_id=principal.id)
        self._on_stored()
        return document

    async def retry_all(self, collection: str) -> int:
        """Tries the failed and cancelled ones again, at most 1,000; how many."""
        principal = may_use_documents()
        found = check_writable(principal, await self._collections.get(principal.tenant_id, collection))
        retried = 0
        for state in (DocumentState.FAILED, DocumentState.CANCELLED):
            page = await self._documents.list_page(
                principal.tenant_id, found.id, size=_RETRIED_AT_ONCE // 2, position=None, state=state
            )
            for document in page.items:
                try:
                    await self._documents.retry(principal.tenant_id, document.id, principal_id=principal.id)
                except ErrandError:
                    continue  # deleted or tried again meanwhile
                retried += 1
        self._on_stored()
        return retried

    async def _readable(self, principal: Principal, document_id: str) -> tuple[Document, Collection]:
        document = await self._documents.get(principal.tenant_id, document_id)
        collection = await self._collections.get(principal.tenant_id, document.collection_id)
        return document, check_readable(principal, collection)

    async def _writable(self, principal: Principal, document_id: str) -> None:
        _, collection = await self._readable(principal, document_id)
        check_writable(principal, collection)


def _clean(value: MetadataValue) -> MetadataValue:
    return clean_text(value) if isinstance(value, str) else value
