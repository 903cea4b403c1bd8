"""Reads an upload's stream: the header first, then bytes, refused as soon as they are too many."""

import asyncio
from collections.abc import AsyncIterator

from errand.rag.v1 import rag_pb2
from errand_common.errors import InvalidArgument, Overloaded, TooLarge

from errand_rag.domain.documents import DocumentService
from errand_rag.domain.models import Document
from errand_rag.transport import convert


class UploadReader:
    """Bounded in bytes of one document and in uploads at a time: each is held in memory."""

    def __init__(self, documents: DocumentService, *, max_bytes: int, max_concurrent: int) -> None:
        self._documents = documents
        self._max_bytes = max_bytes
        self._slots = asyncio.Semaphore(max_concurrent)

    async def receive(self, parts: AsyncIterator[rag_pb2.UploadDocumentRequest]) -> tuple[Document, bool]:
        """The stored document, and True for one that was there.

        Raises InvalidArgument for parts out of order, TooLarge, Overloaded, NotFound.
        """
        if self._slots.locked():
            raise Overloaded(
                "as many uploads are under way as are taken at a time; try again soon",
                retry_after_seconds=1.0,
            )
        async with self._slots:
            header = await _header(parts)
            options = convert.upload_options(header)
            collection_id = await self._documents.open_upload(header.collection_id, options)
            content = await self._content(parts)
            return await self._documents.upload(collection_id, header.filename, content, options)

    async def _content(self, parts: AsyncIterator[rag_pb2.UploadDocumentRequest]) -> bytes:
        content = bytearray()
        async for part in parts:
            if part.WhichOneof("part") != "data":
                raise InvalidArgument("a second header; send it once, first", field="header")
            if len(content) + len(part.data) > self._max_bytes:
                raise TooLarge(
                    f"the document is larger than {self._max_bytes} bytes; split it",
                    field="data",
                    limit=self._max_bytes,
                )
            content += part.data
        return bytes(content)


async def _header(
    parts: AsyncIterator[rag_pb2.UploadDocumentRequest],
) -> rag_pb2.UploadHeader:
    async for part in parts:
        if part.WhichOneof("part") == "header":
            return part.header
        break
    raise InvalidArgument(
        "the upload does not begin with its header; send collection and file name first",
        field="header",
    )
