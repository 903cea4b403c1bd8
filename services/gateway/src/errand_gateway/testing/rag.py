# ruff: noqa: N802 - the methods' names are the protocol's
"""A fake rag service: keeps collections and documents in memory, finds passages by substring."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

from errand.rag.v1 import rag_pb2 as pb
from errand.rag.v1 import rag_pb2_grpc
from errand_common.db import new_id, utc_now
from errand_common.errors import Conflict, NotFound

from errand_gateway.testing.store import TenantStore, paged


class FakeRag(rag_pb2_grpc.RagServiceServicer):
    """Documents are ready at once; `largest_piece` is the longest piece an upload sent."""

    def __init__(self) -> None:
        self.largest_piece = 0
        self.pieces = 0
        self._collections: TenantStore[pb.Collection] = TenantStore("collection")
        self._documents: TenantStore[pb.Document] = TenantStore("document")
        self._texts: dict[str, str] = {}

    def _collection(self, wanted: str) -> pb.Collection:
        for collection in self._collections.all():
            if wanted in (collection.id, collection.name):
                return collection
        raise NotFound("collection", wanted)

    def _documents_of(self, collection_id: str) -> list[pb.Document]:
        return [row for row in self._documents.all() if row.collection_id == collection_id]

    async def CreateCollection(self, request: pb.CreateCollectionRequest, context: Any) -> pb.CreateCollectionResponse:
        """Makes a collection."""
        row = pb.Collection()
        row.CopyFrom(request.collection)
        row.id = new_id("col")
        row.chunk_tokens = row.chunk_tokens or 200
        row.embedding_model = "fake"
        row.created_at.FromDatetime(utc_now())
        return pb.CreateCollectionResponse(collection=self._collections.add(row.name, row))

    async def GetCollection(self, request: pb.GetCollectionRequest, context: Any) -> pb.GetCollectionResponse:
        """One collection."""
        return pb.GetCollectionResponse(collection=self._collection(request.id))

    async def ListCollections(self, request: pb.ListCollectionsRequest, context: Any) -> pb.ListCollectionsResponse:
        """Collections, oldest first."""
        rows, token = paged(self._collections.all(), request.page)
        return pb.ListCollectionsResponse(collections=rows, next_page_token=token)

    async def DeleteCollection(self, request: pb.DeleteCollectionRequest, context: Any) -> pb.DeleteCollectionResponse:
        """Deletes a collection with its documents."""
        collection = self._collections.pop(self._collection(request.id).name)
        for document in self._documents_of(collection.id):
            self._documents.pop(document.id)
        return pb.DeleteCollectionResponse()

    async def UploadDocument(
        self, request_iterator: AsyncIterator[pb.UploadDocumentRequest], context: Any
    ) -> pb.UploadDocumentResponse:
        """Stores a document."""
        header = (await anext(aiter(request_iterator))).header
        collection = self._collection(header.collection_id)
        content = b""
        async for part in request_iterator:
            self.pieces += 1
            self.largest_piece = max(self.largest_piece, len(part.data))
            content += part.data
        digest = hashlib.sha256(content).hexdigest()
        for document in self._documents_of(collection.id):
            if document.content_hash == digest:
                return pb.UploadDocumentResponse(document=document, duplicate=True)
        document = pb.Document(
            id=new_id("doc"),
            collection_id=collection.id,
            filename=header.filename,
            title=header.filename,
            media_type="text/plain",
            size_bytes=len(content),
            content_hash=digest,
            state=pb.DOCUMENT_STATE_READY,
            progress_percent=100,
            chunk_count=1,
        )
        document.created_at.FromDatetime(utc_now())
        self._texts[document.id] = content.decode(errors="replace")
        collection.document_count += 1
        return pb.UploadDocumentResponse(document=self._documents.add(document.id, document))

    async def GetDocument(self, request: pb.GetDocumentRequest, context: Any) -> pb.GetDocumentResponse:
        """One document."""
        return pb.GetDocumentResponse(document=self._documents.get(request.id))

    async def ListDocuments(self, request: pb.ListDocumentsRequest, context: Any) -> pb.ListDocumentsResponse:
        """A collection's documents, newest first."""
        collection = self._collection(request.collection_id)
        rows, token = paged(reversed(self._documents_of(collection.id)), request.page)
        return pb.ListDocumentsResponse(documents=rows, next_page_token=token)

    async def DeleteDocument(self, request: pb.DeleteDocumentRequest, context: Any) -> pb.DeleteDocumentResponse:
        """Deletes a document."""
        self._documents.pop(request.id)
        return pb.DeleteDocumentResponse()

    async def RetryDocument(self, request: pb.RetryDocumentRequest, context: Any) -> pb.RetryDocumentResponse:
        """Refuses: no ingestion fails here."""
        document = self._documents.get(request.id)
        raise Conflict("the document has not failed", resource="document", id=document.id)

    async def Search(self, request: pb.SearchRequest, context: Any) -> pb.SearchResponse:
        """Documents that hold a word of the query."""
        wanted = {self._collection(name).id for name in request.collection_ids}
        words = request.query.lower().split()
        hits = [
            pb.SearchHit(
                chunk_id=f"{document.id}-0",
                document_id=document.id,
                collection_id=document.collection_id,
                title=document.title,
                filename=document.filename,
                text=self._texts[document.id][:500],
                end_offset=len(self._texts[document.id][:500]),
                score=1.0,
                similarity=0.5,
            )
            for document in self._documents.all()
            if not wanted or document.collection_id in wanted
            if any(word in self._texts[document.id].lower() for word in words)
        ]
        return pb.SearchResponse(hits=hits[: request.top_k or 5])
