"""Between messages and the domain."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime

from errand.rag.v1 import rag_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from errand_rag.domain.documents import UploadOptions
from errand_rag.domain.filters import (
    AllOf,
    AnyOf,
    Condition,
    Filter,
    MetadataType,
    MetadataValue,
    NoneOf,
    Operator,
)
from errand_rag.domain.models import (
    Certificate,
    Collection,
    CollectionChange,
    Document,
    DocumentState,
    NewCollection,
    SearchHit,
    SearchMode,
    SearchQuery,
    SearchResult,
)

_DEFAULT_TOP_K = 5
# What a database column holds.
_MAX_INTEGER = 2**63 - 1
_STATES = {
    DocumentState.PENDING: rag_pb2.DOCUMENT_STATE_PENDING,
    DocumentState.PROCESSING: rag_pb2.DOCUMENT_STATE_PROCESSING,
    DocumentState.READY: rag_pb2.DOCUMENT_STATE_READY,
    DocumentState.FAILED: rag_pb2.DOCUMENT_STATE_FAILED,
    DocumentState.CANCELLED: rag_pb2.DOCUMENT_STATE_CANCELLED,
}
_MODES = {
    rag_pb2.SEARCH_MODE_UNSPECIFIED: SearchMode.HYBRID,
    rag_pb2.SEARCH_MODE_HYBRID: SearchMode.HYBRID,
    rag_pb2.SEARCH_MODE_VECTOR: SearchMode.VECTOR,
    rag_pb2.SEARCH_MODE_KEYWORD: SearchMode.KEYWORD,
}
_TYPES = {
    MetadataType.STRING: rag_pb2.METADATA_TYPE_STRING,
    MetadataType.NUMBER: rag_pb2.METADATA_TYPE_NUMBER,
    MetadataType.BOOLEAN: rag_pb2.METADATA_TYPE_BOOLEAN,
}
_OPERATORS = {
    rag_pb2.OPERATOR_EQUAL: Operator.EQUAL,
    rag_pb2.OPERATOR_NOT_EQUAL: Operator.NOT_EQUAL,
    rag_pb2.OPERATOR_LESS: Operator.LESS,
    rag_pb2.OPERATOR_LESS_OR_EQUAL: Operator.LESS_OR_EQUAL,
    rag_pb2.OPERATOR_GREATER: Operator.GREATER,
    rag_pb2.OPERATOR_GREATER_OR_EQUAL: Operator.GREATER_OR_EQUAL,
    rag_pb2.OPERATOR_IN: Operator.IN,
    rag_pb2.OPERATOR_EXISTS: Operator.EXISTS,
}
_GROUPS: dict[str, type[AllOf | AnyOf | NoneOf]] = {"all_of": AllOf, "any_of": AnyOf, "none_of": NoneOf}


def new_collection(message: rag_pb2.Collection) -> NewCollection:
    """What is asked for; output-only fields are ignored."""
    return NewCollection(
        name=message.name,
        description=message.description,
        chunk_tokens=message.chunk_tokens,
        chunk_overlap_tokens=message.chunk_overlap_tokens,
        metadata_schema={name: _type(kind) for name, kind in message.metadata_schema.items()},
        reader_roles=frozenset(message.reader_roles),
        writer_roles=frozenset(message.writer_roles),
        max_documents=min(message.max_documents, _MAX_INTEGER),
        max_bytes=min(message.max_bytes, _MAX_INTEGER),
    )


def collection_change(request: rag_pb2.UpdateCollectionRequest) -> CollectionChange:
    """What is asked to be another."""
    numbers = {
        name: min(getattr(request, name), _MAX_INTEGER)
        for name in ("max_documents", "max_bytes")
        if request.HasField(name)
    }
    return CollectionChange(
        description=request.description if request.HasField("description") else None,
        reader_roles=frozenset(request.reader_roles.roles) if request.HasField("reader_roles") else None,
        writer_roles=frozenset(request.writer_roles.roles) if request.HasField("writer_roles") else None,
        **numbers,
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
        metadata_schema={name: _TYPES[kind] for name, kind in collection.metadata_schema.items()},
        reader_roles=sorted(collection.reader_roles),
        writer_roles=sorted(collection.writer_roles),
        max_documents=collection.max_documents,
        max_bytes=collection.max_bytes,
        size_bytes=collection.size_bytes,
        reindex=_reindex(collection),
    )


def _reindex(collection: Collection) -> rag_pb2.Reindex | None:
    if collection.building is None:
        return None
    return rag_pb2.Reindex(
        embedding_model=collection.building_model,
        chunks_done=collection.building_done,
        chunks_total=collection.chunk_count,
    )


def certificate_message(certificate: Certificate) -> rag_pb2.DeletionCertificate:
    """A certificate as it is sent."""
    return rag_pb2.DeletionCertificate(
        id=certificate.id,
        kind=certificate.kind,
        target_id=certificate.target_id,
        requested_by=certificate.requested_by,
        requested_at=_timestamp(certificate.requested_at),
        documents=certificate.deleted.documents,
        chunks=certificate.deleted.chunks,
        bytes=certificate.deleted.bytes,
        proofs=[rag_pb2.DeletionProof(**asdict(proof)) for proof in certificate.proofs],
        complete=certificate.complete,
        proven_at=_timestamp(certificate.proven_at) if certificate.proven_at else None,
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
        metadata=_metadata_message(document.metadata),
        uploaded_by=document.uploaded_by,
    )


def upload_options(header: rag_pb2.UploadHeader | rag_pb2.FetchDocumentRequest) -> UploadOptions:
    """What it says besides name and collection."""
    metadata = {name: _value(value) for name, value in header.metadata.items()}
    return UploadOptions(metadata=metadata, priority=header.priority)


def document_state(state: rag_pb2.DocumentState) -> DocumentState | None:
    """The state asked for; None for unspecified."""
    return next((ours for ours, theirs in _STATES.items() if theirs == state), None)


def search_query(request: rag_pb2.SearchRequest) -> SearchQuery:
    """What is looked for."""
    return SearchQuery(
        text=request.query,
        collections=tuple(request.collection_ids),
        top_k=request.top_k or _DEFAULT_TOP_K,
        mode=_MODES[request.mode],
        min_similarity=request.min_similarity,
        where=_filter(request.filter) if request.HasField("filter") else None,
        diversity=request.diversity,
        neighbours=request.neighbours,
        rerank=request.rerank,
    )


def search_response(result: SearchResult) -> rag_pb2.SearchResponse:
    """The passages as they are sent."""
    return rag_pb2.SearchResponse(
        hits=[_hit(hit) for hit in result.hits], degraded=result.degraded, reranked=result.reranked
    )


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
        metadata=_metadata_message(passage.metadata),
        text_before=hit.text_before,
        text_after=hit.text_after,
        rerank_score=hit.rerank_score,
    )


def _filter(message: rag_pb2.Filter) -> Filter:
    kind = message.WhichOneof("node")
    if kind == "condition":
        condition = message.condition
        values = tuple(_value(value) for value in condition.values)
        return Condition(condition.field, _OPERATORS[condition.operator], values)
    group: rag_pb2.FilterGroup = getattr(message, kind or "all_of")
    return _GROUPS[kind or "all_of"](tuple(_filter(inner) for inner in group.filters))


def _value(message: rag_pb2.MetadataValue) -> MetadataValue:
    value: MetadataValue = getattr(message, message.WhichOneof("value") or "string_value")
    return value


def _metadata_message(metadata: Mapping[str, MetadataValue]) -> dict[str, rag_pb2.MetadataValue]:
    return {name: _value_message(value) for name, value in metadata.items()}


def _value_message(value: MetadataValue) -> rag_pb2.MetadataValue:
    if isinstance(value, bool):
        return rag_pb2.MetadataValue(boolean_value=value)
    if isinstance(value, str):
        return rag_pb2.MetadataValue(string_value=value)
    return rag_pb2.MetadataValue(number_value=value)


def _type(kind: rag_pb2.MetadataType) -> MetadataType:
    return next(ours for ours, theirs in _TYPES.items() if theirs == kind)


def _timestamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
