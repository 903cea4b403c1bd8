"""The rag service over gRPC."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

import grpc.aio
from errand.rag.v1 import rag_pb2 as pb
from errand.rag.v1.rag_pb2_grpc import RagServiceStub
from errand_common.rpc.client import deadline_seconds, translate_errors

from errand_gateway.clients import conversion as convert
from errand_gateway.domain import resources as r

if TYPE_CHECKING:
    from errand.rag.v1.rag_pb2_grpc import RagServiceAsyncStub

DEPENDENCY: Final = "rag"


class GrpcDocumentBackend:
    """DocumentBackend on a channel."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        upload_seconds: float = 120.0,
        call_seconds: float = 30.0,
    ) -> None:
        self._stub: RagServiceAsyncStub = RagServiceStub(channel)
        self._upload_seconds = upload_seconds
        self._call_seconds = call_seconds

    @property
    def _timeout(self) -> float:
        return deadline_seconds(self._call_seconds)

    async def create_collection(
        self, name: str, description: str, *, chunk_tokens: int, chunk_overlap_tokens: int
    ) -> r.Collection:
        """Makes a collection."""
        message = pb.Collection(
            name=name,
            description=description,
            chunk_tokens=chunk_tokens,
            chunk_overlap_tokens=chunk_overlap_tokens,
        )
        with translate_errors(DEPENDENCY):
            response = await self._stub.CreateCollection(
                pb.CreateCollectionRequest(collection=message), timeout=self._timeout
            )
        return _collection(response.collection)

    async def get_collection(self, collection: str) -> r.Collection:
        """One collection, by id or name."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.GetCollection(pb.GetCollectionRequest(id=collection), timeout=self._timeout)
        return _collection(response.collection)

    async def list_collections(self, page: r.PageQuery) -> r.Page[r.Collection]:
        """Collections, oldest first."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListCollections(
                pb.ListCollectionsRequest(page=convert.page_request(page)), timeout=self._timeout
            )
        items = [_collection(item) for item in response.collections]
        return r.Page(items, response.next_page_token)

    async def delete_collection(self, collection: str) -> None:
        """Deletes a collection with its documents."""
        with translate_errors(DEPENDENCY):
            await self._stub.DeleteCollection(pb.DeleteCollectionRequest(id=collection), timeout=self._timeout)

    async def upload(self, collection: str, filename: str, data: AsyncIterator[bytes]) -> r.StoredDocument:
        """Streams a document's bytes, in pieces of at most 1 MiB."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.UploadDocument(
                _parts(collection, filename, data), timeout=deadline_seconds(self._upload_seconds)
            )
        return r.StoredDocument(_document(response.document), response.duplicate)

    async def get_document(self, document_id: str) -> r.Document:
        """One document."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.GetDocument(pb.GetDocumentRequest(id=document_id), timeout=self._timeout)
        return _document(response.document)

    async def list_documents(self, collection: str, page: r.PageQuery) -> r.Page[r.Document]:
        """A collection's documents, newest first."""
        request = pb.ListDocumentsRequest(collection_id=collection, page=convert.page_request(page))
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListDocuments(request, timeout=self._timeout)
        return r.Page([_document(item) for item in response.documents], response.next_page_token)

    async def delete_document(self, document_id: str) -> None:
        """Deletes a document."""
        with translate_errors(DEPENDENCY):
            await self._stub.DeleteDocument(pb.DeleteDocumentRequest(id=document_id), timeout=self._timeout)

    async def retry_document(self, document_id: str) -> r.Document:
        """Tries a failed ingestion again."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.RetryDocument(pb.RetryDocumentRequest(id=document_id), timeout=self._timeout)
        return _document(response.document)

    async def search(self, command: r.SearchCommand) -> r.SearchResult:
        """Finds passages."""
        request = pb.SearchRequest(
            collection_ids=command.collections,
            query=command.query,
            top_k=command.top_k,
            mode=convert.enum_number(pb.SearchMode, "SEARCH_MODE_", command.mode),
            min_similarity=command.min_similarity,
        )
        with translate_errors(DEPENDENCY):
            response = await self._stub.Search(request, timeout=self._timeout)
        return r.SearchResult([_hit(hit) for hit in response.hits], response.degraded)


async def _parts(collection: str, filename: str, data: AsyncIterator[bytes]) -> AsyncIterator[pb.UploadDocumentRequest]:
    header = pb.UploadHeader(collection_id=collection, filename=filename)
    yield pb.UploadDocumentRequest(header=header)
    async for piece in data:
        yield pb.UploadDocumentRequest(data=piece)


def _collection(message: pb.Collection) -> r.Collection:
    return r.Collection(
        id=message.id,
        name=message.name,
        description=message.description,
        chunk_tokens=message.chunk_tokens,
        chunk_overlap_tokens=message.chunk_overlap_tokens,
        embedding_model=message.embedding_model,
        document_count=message.document_count,
        created_at=convert.moment(message, "created_at"),
    )


def _document(message: pb.Document) -> r.Document:
    return r.Document(
        id=message.id,
        collection_id=message.collection_id,
        filename=message.filename,
        title=message.title,
        media_type=message.media_type,
        size_bytes=message.size_bytes,
        content_hash=message.content_hash,
        state=convert.enum_or(
            r.DocumentState,
            pb.DocumentState,
            message.state,
            "DOCUMENT_STATE_",
            r.DocumentState.PENDING,
        ),
        progress_percent=message.progress_percent,
        failure=message.failure,
        chunk_count=message.chunk_count,
        created_at=convert.moment(message, "created_at"),
    )


def _hit(message: pb.SearchHit) -> r.SearchHit:
    return r.SearchHit(
        chunk_id=message.chunk_id,
        document_id=message.document_id,
        collection_id=message.collection_id,
        title=message.title,
        filename=message.filename,
        page=message.page if message.HasField("page") else None,
        heading=message.heading,
        start_offset=message.start_offset,
        end_offset=message.end_offset,
        text=message.text,
        score=message.score,
        similarity=message.similarity,
    )
