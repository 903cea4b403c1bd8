"""The rag service over gRPC."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import grpc.aio
from errand.rag.v1 import rag_pb2 as pb
from errand.rag.v1.rag_pb2_grpc import RagServiceStub
from errand_common.errors import Conflict
from errand_common.rpc.client import deadline_seconds, streaming, translate_errors

from errand_gateway.clients import conversion as convert
from errand_gateway.clients import rag_messages as messages
from errand_gateway.domain import documents as d
from errand_gateway.domain.resources import Page, PageQuery

if TYPE_CHECKING:
    from errand.rag.v1.rag_pb2_grpc import RagServiceAsyncStub

DEPENDENCY: Final = "rag"
_DELETIONS_AT_ONCE: Final = 200


class GrpcDocumentBackend:
    """DocumentBackend on a channel."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        upload_seconds: float = 120.0,
        call_seconds: float = 30.0,
        watch_seconds: float = 3600.0,
    ) -> None:
        self._stub: RagServiceAsyncStub = RagServiceStub(channel)
        self._upload_seconds = upload_seconds
        self._call_seconds = call_seconds
        self._watch_seconds = watch_seconds

    @property
    def _timeout(self) -> float:
        return deadline_seconds(self._call_seconds)

    async def create_collection(self, new: d.NewCollection) -> d.Collection:
        """Makes a collection."""
        request = pb.CreateCollectionRequest(collection=messages.new_collection_message(new))
        with translate_errors(DEPENDENCY):
            response = await self._stub.CreateCollection(request, timeout=self._timeout)
        return messages.collection_of(response.collection)

    async def get_collection(self, collection: str) -> d.Collection:
        """One collection, by id or name."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.GetCollection(pb.GetCollectionRequest(id=collection), timeout=self._timeout)
        return messages.collection_of(response.collection)

    async def list_collections(self, page: PageQuery) -> Page[d.Collection]:
        """Collections, oldest first."""
        request = pb.ListCollectionsRequest(page=convert.page_request(page))
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListCollections(request, timeout=self._timeout)
        return Page([messages.collection_of(item) for item in response.collections], response.next_page_token)

    async def update_collection(self, collection: str, change: d.CollectionChange) -> d.Collection:
        """Changes what was said of a collection when it was made."""
        request = messages.change_message(collection, change)
        with translate_errors(DEPENDENCY):
            response = await self._stub.UpdateCollection(request, timeout=self._timeout)
        return messages.collection_of(response.collection)

    async def delete_collection(self, collection: str) -> d.DeletionCertificate:
        """Deletes a collection with its documents."""
        request = pb.DeleteCollectionRequest(id=collection)
        with translate_errors(DEPENDENCY):
            response = await self._stub.DeleteCollection(request, timeout=self._timeout)
        return messages.certificate_of(response.certificate)

    async def reindex_collection(self, collection: str, embedding_model: str) -> d.Collection:
        """Starts to build its index anew; no model means the one in use."""
        request = pb.ReindexCollectionRequest(id=collection, embedding_model=embedding_model)
        with translate_errors(DEPENDENCY):
            response = await self._stub.ReindexCollection(request, timeout=self._timeout)
        return messages.collection_of(response.collection)

    async def reconcile_collection(self, collection: str, *, dry_run: bool) -> d.Reconciliation:
        """Compares rows with vectors and repairs the vectors."""
        request = pb.ReconcileCollectionRequest(id=collection, dry_run=dry_run)
        # What is missing is embedded within the call.
        with translate_errors(DEPENDENCY):
            found = await self._stub.ReconcileCollection(request, timeout=deadline_seconds(self._upload_seconds))
        return d.Reconciliation(found.missing_vectors, found.dead_vectors, found.consistent)

    async def upload(self, collection: str, new: d.NewDocument, data: AsyncIterator[bytes]) -> d.StoredDocument:
        """Streams a document's bytes, in pieces of at most 1 MiB."""
        parts = _parts(messages.header_message(collection, new), data)
        with translate_errors(DEPENDENCY):
            response = await self._stub.UploadDocument(parts, timeout=deadline_seconds(self._upload_seconds))
        return d.StoredDocument(messages.document_of(response.document), response.duplicate)

    async def fetch(self, collection: str, url: str, new: d.NewDocument) -> d.StoredDocument:
        """Has a document fetched from a URL; no file name takes host and path of it."""
        request = messages.fetch_message(collection, url, new)
        with translate_errors(DEPENDENCY):
            response = await self._stub.FetchDocument(request, timeout=deadline_seconds(self._upload_seconds))
        return d.StoredDocument(messages.document_of(response.document), response.duplicate)

    async def get_document(self, document_id: str) -> d.Document:
        """One document."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.GetDocument(pb.GetDocumentRequest(id=document_id), timeout=self._timeout)
        return messages.document_of(response.document)

    async def list_documents(
        self, collection: str, page: PageQuery, state: d.DocumentState | None = None
    ) -> Page[d.Document]:
        """A collection's documents, newest first."""
        request = pb.ListDocumentsRequest(
            collection_id=collection,
            page=convert.page_request(page),
            state=convert.enum_number(pb.DocumentState, "DOCUMENT_STATE_", state),
        )
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListDocuments(request, timeout=self._timeout)
        return Page([messages.document_of(item) for item in response.documents], response.next_page_token)

    async def watch_document(self, document_id: str) -> AsyncIterator[d.Document]:
        """The document each time its state or progress changes, until its ingestion ends."""
        call = self._stub.WatchDocument(
            pb.WatchDocumentRequest(id=document_id), timeout=deadline_seconds(self._watch_seconds)
        )
        with streaming(call, DEPENDENCY) as answers:
            async for step in answers:
                yield messages.document_of(step.document)

    async def delete_document(self, document_id: str) -> d.DeletionCertificate:
        """Deletes a document."""
        request = pb.DeleteDocumentRequest(id=document_id)
        with translate_errors(DEPENDENCY):
            response = await self._stub.DeleteDocument(request, timeout=self._timeout)
        return messages.certificate_of(response.certificate)

    async def cancel_document(self, document_id: str) -> d.Document:
        """Stops an ingestion."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.CancelDocument(pb.CancelDocumentRequest(id=document_id), timeout=self._timeout)
        return messages.document_of(response.document)

    async def retry_document(self, document_id: str) -> d.Document:
        """Tries a failed or cancelled ingestion again."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.RetryDocument(pb.RetryDocumentRequest(id=document_id), timeout=self._timeout)
        return messages.document_of(response.document)

    async def retry_documents(self, collection: str) -> int:
        """Tries all failed and cancelled ingestions again; how many."""
        request = pb.RetryDocumentsRequest(collection_id=collection)
        with translate_errors(DEPENDENCY):
            return (await self._stub.RetryDocuments(request, timeout=self._timeout)).retried

    async def search(self, command: d.SearchCommand) -> d.SearchResult:
        """Finds passages."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.Search(messages.search_message(command), timeout=self._timeout)
        return messages.search_result(response)

    async def search_batch(self, commands: Sequence[d.SearchCommand]) -> Sequence[d.SearchResult]:
        """Finds passages for several queries, in their order."""
        request = pb.SearchBatchRequest(searches=[messages.search_message(command) for command in commands])
        with translate_errors(DEPENDENCY):
            response = await self._stub.SearchBatch(request, timeout=self._timeout)
        return [messages.search_result(answer) for answer in response.answers]

    async def delete_data(self, *, tenant_id: str = "", principal_id: str = "") -> d.DeletionCertificate:
        """Deletes all of the caller's tenant, or what one principal of it uploaded."""
        request = pb.DeleteDataRequest(tenant_id=tenant_id or None, principal_id=principal_id or None)
        with translate_errors(DEPENDENCY):
            response = await self._stub.DeleteData(request, timeout=deadline_seconds(self._upload_seconds))
        return messages.certificate_of(response.certificate)

    async def get_deletion(self, certificate_id: str) -> d.DeletionCertificate:
        """A certificate as it stands now."""
        request = pb.GetDeletionCertificateRequest(id=certificate_id)
        with translate_errors(DEPENDENCY):
            response = await self._stub.GetDeletionCertificate(request, timeout=self._timeout)
        return messages.certificate_of(response.certificate)

    async def list_deletions(self, page: PageQuery) -> Page[d.DeletionCertificate]:
        """Certificates, newest first."""
        request = pb.ListDeletionCertificatesRequest(page=convert.page_request(page))
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListDeletionCertificates(request, timeout=self._timeout)
        return Page([messages.certificate_of(item) for item in response.certificates], response.next_page_token)

    async def erase_tenant(self, tenant_id: str) -> Mapping[str, int]:
        """Deletes all collections; with none left raises Conflict until each deletion is proven."""
        if (await self.list_collections(PageQuery(1))).items:
            certificate = await self.delete_data(tenant_id=tenant_id)
            rows = sum(proof.looked_for for proof in certificate.proofs if proof.place == "rows")
            collections = rows - certificate.documents
            return {"collections": collections, "documents": certificate.documents, "chunks": certificate.chunks}
        async for known in self._deletions():
            if not known.complete and not (await self.get_deletion(known.id)).complete:
                raise Conflict("what was deleted is still being removed from its last place", resource="deletion")
        return {}

    async def _deletions(self) -> AsyncIterator[d.DeletionCertificate]:
        token = ""
        while True:
            page = await self.list_deletions(PageQuery(_DELETIONS_AT_ONCE, token))
            for known in page.items:
                yield known
            if not (token := page.next_page_token):
                return


async def _parts(header: pb.UploadHeader, data: AsyncIterator[bytes]) -> AsyncIterator[pb.UploadDocumentRequest]:
    yield pb.UploadDocumentRequest(header=header)
    async for piece in data:
        yield pb.UploadDocumentRequest(data=piece)
