"""Documents by their URL."""

import asyncio
from urllib.parse import unquote, urlsplit

from errand_common.errors import InvalidArgument, Overloaded

from errand_rag.domain.documents import DocumentService, UploadOptions
from errand_rag.domain.models import Document
from errand_rag.domain.ports import WebFetcher


class FetchService:
    """Fetches and stores, bounded in fetches at a time: each is held in memory."""

    def __init__(self, documents: DocumentService, fetcher: WebFetcher, *, max_concurrent: int) -> None:
        self._documents = documents
        self._fetcher = fetcher
        self._slots = asyncio.Semaphore(max_concurrent)

    async def fetch(self, collection: str, url: str, filename: str, options: UploadOptions) -> tuple[Document, bool]:
        """The stored document, and True for one that was there.

        Raises as an upload does, and as the fetcher does.
        """
        if self._slots.locked():
            raise Overloaded(
                "as many documents are being fetched as are at a time; try again soon", retry_after_seconds=1.0
            )
        async with self._slots:
            collection_id = await self._documents.open_upload(collection, options)
            name = filename or filename_of(url)
            content = await self._fetcher.get(url)
            return await self._documents.upload(collection_id, name, content, options)


def filename_of(url: str) -> str:
    """Host and path: pages of one name at different places must not replace each other.

    The query is left out, since it may hold what signs the URL. Raises InvalidArgument.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        host = ""
    if not host:
        raise InvalidArgument("the URL cannot be read; give one such as https://host/path", field="url", rule="url")
    steps = [unquote(step) for step in parts.path.split("/") if step]
    return " - ".join([host, *(step.replace("/", " ").replace("\\", " ") for step in steps)])[-255:]
