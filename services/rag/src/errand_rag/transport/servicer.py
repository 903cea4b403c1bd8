"""RagService over gRPC: converts, calls one use case, converts back."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from errand.common.v1 import common_pb2
from errand.rag.v1 import rag_pb2, rag_pb2_grpc
from errand_common.db import decode_page_token, encode_page_token
from errand_common.errors import InvalidArgument

from errand_rag.domain.collections import CollectionService
from errand_rag.domain.deletion import DeletionService
from errand_rag.domain.documents import DocumentService
from errand_rag.domain.fetching import FetchService
from errand_rag.domain.reindexing import Reindexing
from errand_rag.domain.search import SearchService
from errand_rag.transport import convert
from errand_rag.transport.uploads import UploadReader

_DEFAULT_PAGE_SIZE = 50


class RagServicer(rag_pb2_grpc.RagServiceServicer):
    """Each method raises ErrandError; the server's interceptor makes a status of it."""

    def __init__(
        self,
        *,
        collections: CollectionService,
        documents: DocumentService,
        search: SearchService,
        uploads: UploadReader,
        fetching: FetchService,
        deletion: DeletionService,
        reindexing: Reindexing,
        on_stored: Callable[[], None],
    ) -> None:
        self._collections = collections
        self._documents = documents
        self._search = search
        self._uploads = uploads
        self._fetching = fetching
        self._deletion = deletion
        self._reindexing = reindexing
        self._on_stored = on_stored

    async def CreateCollection(
        self, request: rag_pb2.CreateCollectionRequest, context: Any
    ) -> rag_pb2.CreateCollectionResponse:
        """Makes a collection."""
        made = await self._collections.create(convert.new_collection(request.collection))
        return rag_pb2.CreateCollectionResponse(collection=convert.collection_message(made))

    async def GetCollection(self, request: rag_pb2.GetCollectionRequest, context: Any) -> rag_pb2.GetCollectionResponse:
        """One collection."""
        found = await self._collections.get(request.id)
        return rag_pb2.GetCollectionResponse(collection=convert.collection_message(found))

    async def ListCollections(
        self, request: rag_pb2.ListCollectionsRequest, context: Any
    ) -> rag_pb2.ListCollectionsResponse:
        """The tenant's collections, oldest first."""
        page = await self._collections.list_page(size=_page_size(request.page), position=_position(request.page))
        return rag_pb2.ListCollectionsResponse(
            collections=[convert.collection_message(item) for item in page.items],
            next_page_token=_token(page.next_position),
        )

    async def UpdateCollection(
        self, request: rag_pb2.UpdateCollectionRequest, context: Any
    ) -> rag_pb2.UpdateCollectionResponse:
        """Changes what was said of a collection."""
        changed = await self._collections.update(request.id, convert.collection_change(request))
        return rag_pb2.UpdateCollectionResponse(collection=convert.collection_message(changed))

    async def DeleteCollection(
        self, request: rag_pb2.DeleteCollectionRequest, context: Any
    ) -> rag_pb2.DeleteCollectionResponse:
        """Deletes a collection with all in it."""
        certificate = await self._deletion.delete_collection(request.id)
        return rag_pb2.DeleteCollectionResponse(certificate=convert.certificate_message(certificate))

    async def UploadDocument(
        self, request_iterator: AsyncIterator[rag_pb2.UploadDocumentRequest], context: Any
    ) -> rag_pb2.UploadDocumentResponse:
        """Stores one document's bytes; ingestion follows."""
        document, duplicate = await self._uploads.receive(request_iterator)
        return rag_pb2.UploadDocumentResponse(document=convert.document_message(document), duplicate=duplicate)

    async def FetchDocument(self, request: rag_pb2.FetchDocumentRequest, context: Any) -> rag_pb2.FetchDocumentResponse:
        """Fetches one document and stores it; ingestion follows."""
        document, duplicate = await self._fetching.fetch(
            request.collection_id, request.url, request.filename, convert.upload_options(request)
        )
        return rag_pb2.FetchDocumentResponse(document=convert.document_message(document), duplicate=duplicate)

    async def GetDocument(self, request: rag_pb2.GetDocumentRequest, context: Any) -> rag_pb2.GetDocumentResponse:
        """One document with its state."""
        found = await self._documents.get(request.id)
        return rag_pb2.GetDocumentResponse(document=convert.document_message(found))

    async def ListDocuments(self, request: rag_pb2.ListDocumentsRequest, context: Any) -> rag_pb2.ListDocumentsResponse:
        """A collection's documents, newest first."""
        page = await self._documents.list_page(
            request.collection_id,
            size=_page_size(request.page),
            position=_position(request.page),
            state=convert.document_state(request.state),
        )
        return rag_pb2.ListDocumentsResponse(
            documents=[convert.document_message(item) for item in page.items],
            next_page_token=_token(page.next_position),
        )

    async def DeleteDocument(
        self, request: rag_pb2.DeleteDocumentRequest, context: Any
    ) -> rag_pb2.DeleteDocumentResponse:
        """Deletes a document with all of it."""
        certificate = await self._deletion.delete_document(request.id)
        return rag_pb2.DeleteDocumentResponse(certificate=convert.certificate_message(certificate))

    async def WatchDocument(
        self, request: rag_pb2.WatchDocumentRequest, context: Any
    ) -> AsyncIterator[rag_pb2.WatchDocumentResponse]:
        """The document as it changes."""
        async for document in self._documents.watch(request.id):
            yield rag_pb2.WatchDocumentResponse(document=convert.document_message(document))

    async def CancelDocument(
        self, request: rag_pb2.CancelDocumentRequest, context: Any
    ) -> rag_pb2.CancelDocumentResponse:
        """Stops an ingestion."""
        document = await self._documents.cancel(request.id)
        return rag_pb2.CancelDocumentResponse(document=convert.document_message(document))

    async def RetryDocuments(
        self, request: rag_pb2.RetryDocumentsRequest, context: Any
    ) -> rag_pb2.RetryDocumentsResponse:
        """Tries all failed ingestions of a collection again."""
        return rag_pb2.RetryDocumentsResponse(retried=await self._documents.retry_all(request.collection_id))

    async def RetryDocument(self, request: rag_pb2.RetryDocumentRequest, context: Any) -> rag_pb2.RetryDocumentResponse:
        """Tries a failed ingestion again."""
        document = await self._documents.retry(request.id)
        return rag_pb2.RetryDocumentResponse(document=convert.document_message(document))

    async def Search(self, request: rag_pb2.SearchRequest, context: Any) -> rag_pb2.SearchResponse:
        """Finds passages."""
        return convert.search_response(await self._search.search(convert.search_query(request)))

    async def DeleteData(self, request: rag_pb2.DeleteDataRequest, context: Any) -> rag_pb2.DeleteDataResponse:
        """Deletes all of a tenant, or what a principal uploaded."""
        if request.WhichOneof("whose") == "tenant_id":
            certificate = await self._deletion.delete_tenant(request.tenant_id)
        else:
            certificate = await self._deletion.delete_uploads_of(request.principal_id)
        return rag_pb2.DeleteDataResponse(certificate=convert.certificate_message(certificate))

    async def GetDeletionCertificate(
        self, request: rag_pb2.GetDeletionCertificateRequest, context: Any
    ) -> rag_pb2.GetDeletionCertificateResponse:
        """One certificate as it stands now."""
        certificate = await self._deletion.certificate(request.id)
        return rag_pb2.GetDeletionCertificateResponse(certificate=convert.certificate_message(certificate))

    async def ListDeletionCertificates(
        self, request: rag_pb2.ListDeletionCertificatesRequest, context: Any
    ) -> rag_pb2.ListDeletionCertificatesResponse:
        """The tenant's certificates, newest first."""
        page = await self._deletion.list_page(size=_page_size(request.page), position=_position(request.page))
        return rag_pb2.ListDeletionCertificatesResponse(
            certificates=[convert.certificate_message(item) for item in page.items],
            next_page_token=_token(page.next_position),
        )

    async def ReindexCollection(
        self, request: rag_pb2.ReindexCollectionRequest, context: Any
    ) -> rag_pb2.ReindexCollectionResponse:
        """Begins to build a new index."""
        collection = await self._reindexing.start(request.id, request.embedding_model)
        self._on_stored()
        return rag_pb2.ReindexCollectionResponse(collection=convert.collection_message(collection))

    async def ReconcileCollection(
        self, request: rag_pb2.ReconcileCollectionRequest, context: Any
    ) -> rag_pb2.ReconcileCollectionResponse:
        """Compares and repairs."""
        found = await self._reindexing.reconcile(request.id, dry_run=request.dry_run)
        self._on_stored()
        return rag_pb2.ReconcileCollectionResponse(
            missing_vectors=found.missing_vectors,
            dead_vectors=found.dead_vectors,
            consistent=not request.dry_run or not (found.missing_vectors or found.dead_vectors),
        )

    async def SearchBatch(self, request: rag_pb2.SearchBatchRequest, context: Any) -> rag_pb2.SearchBatchResponse:
        """Finds passages for several queries."""
        answers = await self._search.search_batch([convert.search_query(one) for one in request.searches])
        return rag_pb2.SearchBatchResponse(answers=[convert.search_response(answer) for answer in answers])


def _page_size(page: common_pb2.PageRequest) -> int:
    return page.page_size or _DEFAULT_PAGE_SIZE


def _position(page: common_pb2.PageRequest) -> str | None:
    values = decode_page_token(page.page_token, length=1)
    if values is None:
        return None
    if not isinstance(values[0], str) or not values[0].isprintable():
        raise InvalidArgument(
            "page_token is not one this listing gave; leave it out to start anew",
            field="page_token",
        )
    return values[0]


def _token(position: str | None) -> str:
    return "" if position is None else encode_page_token([position])
