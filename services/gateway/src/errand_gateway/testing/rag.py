# ruff: noqa: N802 - the methods' names are the protocol's
"""A fake rag service: keeps collections and documents in memory, finds passages by substring."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

from errand.rag.v1 import rag_pb2 as pb
from errand.rag.v1 import rag_pb2_grpc
from errand_common.db import new_id, utc_now
from errand_common.errors import Conflict, InvalidArgument, NotFound
from errand_common.principal import current_principal

from errand_gateway.testing.store import TenantStore, paged


class FakeRag(rag_pb2_grpc.RagServiceServicer):
    """Documents are ready at once, save those named "slow…", which stay on their way.

    `largest_piece` is the longest piece an upload sent; `headers` and `searches` are what was asked. Deletions of what
    is in `unproven` are never over.
    """

    def __init__(self) -> None:
        self.largest_piece = 0
        self.pieces = 0
        self.headers: list[pb.UploadHeader] = []
        self.searches: list[pb.SearchRequest] = []
        self.unproven: set[str] = set()
        self._collections: TenantStore[pb.Collection] = TenantStore("collection")
        self._documents: TenantStore[pb.Document] = TenantStore("document")
        self._certificates: TenantStore[pb.DeletionCertificate] = TenantStore("certificate")
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

    async def UpdateCollection(self, request: pb.UpdateCollectionRequest, context: Any) -> pb.UpdateCollectionResponse:
        """Changes what was said of a collection."""
        collection = self._collection(request.id)
        for name in ("description", "max_documents", "max_bytes"):
            if request.HasField(name):
                setattr(collection, name, getattr(request, name))
        if request.HasField("reader_roles"):
            collection.reader_roles[:] = request.reader_roles.roles
        if request.HasField("writer_roles"):
            collection.writer_roles[:] = request.writer_roles.roles
        return pb.UpdateCollectionResponse(collection=collection)

    async def ReindexCollection(
        self, request: pb.ReindexCollectionRequest, context: Any
    ) -> pb.ReindexCollectionResponse:
        """Says that an index is being built, once."""
        collection = self._collection(request.id)
        if collection.HasField("reindex"):
            raise Conflict("an index is being built", resource="collection", id=collection.id)
        collection.reindex.embedding_model = request.embedding_model
        collection.reindex.chunks_total = collection.document_count
        return pb.ReindexCollectionResponse(collection=collection)

    async def ReconcileCollection(
        self, request: pb.ReconcileCollectionRequest, context: Any
    ) -> pb.ReconcileCollectionResponse:
        """Finds one lost vector; it stays lost when only counting."""
        self._collection(request.id)
        return pb.ReconcileCollectionResponse(missing_vectors=1, consistent=not request.dry_run)

    async def DeleteCollection(self, request: pb.DeleteCollectionRequest, context: Any) -> pb.DeleteCollectionResponse:
        """Deletes a collection with its documents."""
        collection = self._collections.pop(self._collection(request.id).name)
        gone = [self._documents.pop(document.id) for document in self._documents_of(collection.id)]
        return pb.DeleteCollectionResponse(certificate=self._certified("collection", collection.id, gone))

    def _certified(
        self, kind: str, target_id: str, gone: list[pb.Document], *, collections: int = 0
    ) -> pb.DeletionCertificate:
        certificate = pb.DeletionCertificate(
            id=new_id("del"),
            kind=kind,
            target_id=target_id,
            requested_by=current_principal().id,
            documents=len(gone),
            chunks=len(gone),
            bytes=sum(document.size_bytes for document in gone),
            proofs=[pb.DeletionProof(place="rows", looked_for=len(gone) + collections)],
            complete=target_id not in self.unproven,
        )
        certificate.requested_at.FromDatetime(utc_now())
        return self._certificates.add(certificate.id, certificate)

    async def DeleteData(self, request: pb.DeleteDataRequest, context: Any) -> pb.DeleteDataResponse:
        """Deletes all of the tenant, or what a principal uploaded."""
        if request.tenant_id not in ("", current_principal().tenant_id):
            raise InvalidArgument("tenant_id is not the tenant you act for", field="tenant_id")
        whose = request.principal_id
        gone = [row for row in self._documents.all() if not whose or row.uploaded_by == whose]
        for document in gone:
            self._documents.pop(document.id)
        collections = self._collections.clear() if not whose else 0
        kind, target = ("principal", whose) if whose else ("tenant", request.tenant_id)
        certificate = self._certified(kind, target, gone, collections=collections)
        return pb.DeleteDataResponse(certificate=certificate)

    async def GetDeletionCertificate(
        self, request: pb.GetDeletionCertificateRequest, context: Any
    ) -> pb.GetDeletionCertificateResponse:
        """One certificate."""
        return pb.GetDeletionCertificateResponse(certificate=self._certificates.get(request.id))

    async def ListDeletionCertificates(
        self, request: pb.ListDeletionCertificatesRequest, context: Any
    ) -> pb.ListDeletionCertificatesResponse:
        """Certificates, newest first."""
        rows, token = paged(reversed(self._certificates.all()), request.page)
        return pb.ListDeletionCertificatesResponse(certificates=rows, next_page_token=token)

    async def UploadDocument(
        self, request_iterator: AsyncIterator[pb.UploadDocumentRequest], context: Any
    ) -> pb.UploadDocumentResponse:
        """Stores a document."""
        header = (await anext(aiter(request_iterator))).header
        self._collection(header.collection_id)
        content = b""
        async for part in request_iterator:
            self.pieces += 1
            self.largest_piece = max(self.largest_piece, len(part.data))
            content += part.data
        document, duplicate = self._stored(header, content)
        return pb.UploadDocumentResponse(document=document, duplicate=duplicate)

    def _stored(self, header: pb.UploadHeader, content: bytes) -> tuple[pb.Document, bool]:
        self.headers.append(header)
        collection = self._collection(header.collection_id)
        digest = hashlib.sha256(content).hexdigest()
        for known in self._documents_of(collection.id):
            if known.content_hash == digest:
                return known, True
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
            metadata=header.metadata,
            uploaded_by=current_principal().id,
        )
        if header.filename.startswith("slow"):
            document.state, document.progress_percent = pb.DOCUMENT_STATE_PROCESSING, 40
        document.created_at.FromDatetime(utc_now())
        self._texts[document.id] = content.decode(errors="replace")
        collection.document_count += 1
        return self._documents.add(document.id, document), False

    async def FetchDocument(self, request: pb.FetchDocumentRequest, context: Any) -> pb.FetchDocumentResponse:
        """Stores the URL itself as the text; one that names no web host is refused."""
        if not request.url.startswith(("http://", "https://")):
            raise InvalidArgument("Only http and https addresses are allowed.", field="url", rule="url.allowed")
        header = pb.UploadHeader(
            collection_id=request.collection_id,
            filename=request.filename or "page.html",
            metadata=request.metadata,
            priority=request.priority,
        )
        document, duplicate = self._stored(header, request.url.encode())
        return pb.FetchDocumentResponse(document=document, duplicate=duplicate)

    async def GetDocument(self, request: pb.GetDocumentRequest, context: Any) -> pb.GetDocumentResponse:
        """One document."""
        return pb.GetDocumentResponse(document=self._documents.get(request.id))

    async def ListDocuments(self, request: pb.ListDocumentsRequest, context: Any) -> pb.ListDocumentsResponse:
        """A collection's documents, newest first."""
        collection = self._collection(request.collection_id)
        wanted = [row for row in self._documents_of(collection.id) if request.state in (0, row.state)]
        rows, token = paged(reversed(wanted), request.page)
        return pb.ListDocumentsResponse(documents=rows, next_page_token=token)

    async def DeleteDocument(self, request: pb.DeleteDocumentRequest, context: Any) -> pb.DeleteDocumentResponse:
        """Deletes a document."""
        gone = self._documents.pop(request.id)
        return pb.DeleteDocumentResponse(certificate=self._certified("document", gone.id, [gone]))

    async def WatchDocument(
        self, request: pb.WatchDocumentRequest, context: Any
    ) -> AsyncIterator[pb.WatchDocumentResponse]:
        """A step on the way, then the end."""
        ended = self._documents.get(request.id)
        begun = pb.Document()
        begun.CopyFrom(ended)
        begun.state, begun.progress_percent = pb.DOCUMENT_STATE_PROCESSING, 40
        for step in (begun, ended):
            yield pb.WatchDocumentResponse(document=step)

    async def CancelDocument(self, request: pb.CancelDocumentRequest, context: Any) -> pb.CancelDocumentResponse:
        """Stops a slow one."""
        document = self._documents.get(request.id)
        if document.state != pb.DOCUMENT_STATE_PROCESSING:
            raise Conflict("the ingestion has ended", resource="document", id=document.id)
        document.state = pb.DOCUMENT_STATE_CANCELLED
        return pb.CancelDocumentResponse(document=document)

    async def RetryDocument(self, request: pb.RetryDocumentRequest, context: Any) -> pb.RetryDocumentResponse:
        """For a cancelled one; none fails here."""
        document = self._documents.get(request.id)
        if document.state != pb.DOCUMENT_STATE_CANCELLED:
            raise Conflict("the document has not failed", resource="document", id=document.id)
        document.state = pb.DOCUMENT_STATE_PENDING
        return pb.RetryDocumentResponse(document=document)

    async def RetryDocuments(self, request: pb.RetryDocumentsRequest, context: Any) -> pb.RetryDocumentsResponse:
        """For all that are cancelled."""
        rows = self._documents_of(self._collection(request.collection_id).id)
        stopped = [row for row in rows if row.state == pb.DOCUMENT_STATE_CANCELLED]
        for document in stopped:
            document.state = pb.DOCUMENT_STATE_PENDING
        return pb.RetryDocumentsResponse(retried=len(stopped))

    async def SearchBatch(self, request: pb.SearchBatchRequest, context: Any) -> pb.SearchBatchResponse:
        """Each search's answer."""
        return pb.SearchBatchResponse(answers=[self._found(search) for search in request.searches])

    async def Search(self, request: pb.SearchRequest, context: Any) -> pb.SearchResponse:
        """Documents that hold a word of the query."""
        return self._found(request)

    def _found(self, request: pb.SearchRequest) -> pb.SearchResponse:
        self.searches.append(request)
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
                metadata=document.metadata,
                text_after="more" if request.neighbours else "",
                rerank_score=0.75 if request.rerank else None,
            )
            for document in self._documents.all()
            if not wanted or document.collection_id in wanted
            if any(word in self._texts[document.id].lower() for word in words)
        ]
        return pb.SearchResponse(hits=hits[: request.top_k or 5], reranked=request.rerank)
