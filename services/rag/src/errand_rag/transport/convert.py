"""Between messages and the domain."""

from datetime import datetime

from errand.rag.v1 import rag_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from errand_rag.domain.models import (
    Collection,
    Document,
    DocumentState,
    NewCollection,
    SearchHit,
    SearchMode,
    SearchQuery,
    SearchResult,
)

_DEFAULT_TOP_K = 5
_STATES = {
    DocumentState.PENDING: rag_pb2.DOCUMENT_STATE_PENDING,
    DocumentState.PROCESSING: rag_pb2.DOCUMENT_STATE_PROCESSING,
    DocumentState.READY: rag_pb2.DOCUMENT_STATE_READY,
    DocumentState.FAILED: rag_pb2.DOCUMENT_STATE_FAILED,
}
_MODES = {
    rag_pb2.SEARCH_MODE_UNSPECIFIED: SearchMode.HYBRID,
    rag_pb2.SEARCH_MODE_HYBRID: SearchMode.HYBRID,
    rag_pb2.SEARCH_MODE_VECTOR: SearchMode.VECTOR,
    rag_pb2.SEARCH_MODE_KEYWORD: SearchMode.KEYWORD,
}


def new_collection(message: rag_pb2.Collection) -> NewCollection:
    """What is asked for; output-only fields are ignored."""
    return NewCollection(
        name=message.name,
        description=message.description,
        chunk_tokens=message.chunk_tokens,
        chunk_overlap_tokens=message.chunk_overlap_tokens,
    )


def collection_message(collection: Collection) -> rag_pb2.Collection:
    """A collection as it is sent."""
    return rag_pb2.Collection(
        id=collection.id,
        name=collection.name,
        description=collection.description,
        chunk_tokens=collection.chunk_tokens,
        chunk_overlap_tokens=collection.chunk_overlap_tokens,
        embedding_model=collection.embedding_model,
        document_count=collection.document_count,
        created_at=_timestamp(collection.created_at),
    )


def document_message(document: Document) -> rag_pb2.Document:
    """A document as it is sent."""
    return rag_pb2.Document(
        id=document.id,
        collection_id=document.collection_id,
        filename=document.filename,
        title=document.title,
        media_type=document.media_type,
        size_bytes=document.size_bytes,
        content_hash=document.content_hash,
        state=_STATES[document.state],
        progress_percent=document.progress_percent,
        failure=document.failure,
        chunk_count=document.chunk_count,
        created_at=_timestamp(document.created_at),
    )


def search_query(request: rag_pb2.SearchRequest) -> SearchQuery:
    """What is looked for."""
    return SearchQuery(
        text=request.query,
        collections=tuple(request.collection_ids),
        top_k=request.top_k or _DEFAULT_TOP_K,
        mode=_MODES[request.mode],
        min_similarity=request.min_similarity,
    )


def search_response(result: SearchResult) -> rag_pb2.SearchResponse:
    """The passages as they are sent."""
    return rag_pb2.SearchResponse(hits=[_hit(hit) for hit in result.hits], degraded=result.degraded)


def _hit(hit: SearchHit) -> rag_pb2.SearchHit:
    passage = hit.passage
    return rag_pb2.SearchHit(
        chunk_id=passage.chunk_id,
        document_id=passage.document_id,
        collection_id=passage.collection_id,
        title=passage.title,
        filename=passage.filename,
        page=passage.page,
        heading=passage.heading,
        start_offset=passage.start,
        end_offset=passage.end,
        text=passage.text,
        score=hit.score,
        similarity=hit.similarity,
    )


def _timestamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
