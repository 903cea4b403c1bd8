"""Messages of the rag service and what they mean."""

from collections.abc import Mapping

from errand.rag.v1 import rag_pb2 as pb

from errand_gateway.clients import conversion as convert
from errand_gateway.domain import documents as d


def new_collection_message(new: d.NewCollection) -> pb.Collection:
    """A collection to be made."""
    return pb.Collection(
        name=new.name,
        description=new.description,
        chunk_tokens=new.chunk_tokens,
        chunk_overlap_tokens=new.chunk_overlap_tokens,
        metadata_schema={
            name: convert.enum_number(pb.MetadataType, "METADATA_TYPE_", kind)
            for name, kind in new.metadata_schema.items()
        },
        reader_roles=new.reader_roles,
        writer_roles=new.writer_roles,
        max_documents=new.max_documents,
        max_bytes=new.max_bytes,
    )


def change_message(collection: str, change: d.CollectionChange) -> pb.UpdateCollectionRequest:
    """What of a collection is to be another."""
    return pb.UpdateCollectionRequest(
        id=collection,
        description=change.description,
        reader_roles=None if change.reader_roles is None else pb.RoleList(roles=change.reader_roles),
        writer_roles=None if change.writer_roles is None else pb.RoleList(roles=change.writer_roles),
        max_documents=change.max_documents,
        max_bytes=change.max_bytes,
    )


def collection_of(message: pb.Collection) -> d.Collection:
    """A collection."""
    return d.Collection(
        id=message.id,
        name=message.name,
        description=message.description,
        chunk_tokens=message.chunk_tokens,
        chunk_overlap_tokens=message.chunk_overlap_tokens,
        embedding_model=message.embedding_model,
        document_count=message.document_count,
        created_at=convert.moment(message, "created_at"),
        metadata_schema={
            name: convert.enum_or(d.MetadataType, pb.MetadataType, kind, "METADATA_TYPE_", d.MetadataType.STRING)
            for name, kind in sorted(message.metadata_schema.items())
        },
        reader_roles=list(message.reader_roles),
        writer_roles=list(message.writer_roles),
        max_documents=message.max_documents,
        max_bytes=message.max_bytes,
        size_bytes=message.size_bytes,
        reindex=_reindex(message.reindex) if message.HasField("reindex") else None,
    )


def _reindex(message: pb.Reindex) -> d.Reindex:
    return d.Reindex(message.embedding_model, message.chunks_done, message.chunks_total)


def header_message(collection: str, new: d.NewDocument) -> pb.UploadHeader:
    """What is said of a document before its bytes."""
    return pb.UploadHeader(
        collection_id=collection,
        filename=new.filename,
        metadata={name: _value_message(value) for name, value in new.metadata.items()},
        priority=new.priority,
    )


def fetch_message(collection: str, url: str, new: d.NewDocument) -> pb.FetchDocumentRequest:
    """What is said of a document before it is fetched."""
    return pb.FetchDocumentRequest(
        collection_id=collection,
        url=url,
        filename=new.filename,
        metadata={name: _value_message(value) for name, value in new.metadata.items()},
        priority=new.priority,
    )


def document_of(message: pb.Document) -> d.Document:
    """A document."""
    return d.Document(
        id=message.id,
        collection_id=message.collection_id,
        filename=message.filename,
        title=message.title,
        media_type=message.media_type,
        size_bytes=message.size_bytes,
        content_hash=message.content_hash,
        state=convert.enum_or(
            d.DocumentState, pb.DocumentState, message.state, "DOCUMENT_STATE_", d.DocumentState.PENDING
        ),
        progress_percent=message.progress_percent,
        failure=message.failure,
        chunk_count=message.chunk_count,
        created_at=convert.moment(message, "created_at"),
        metadata=_metadata(message.metadata),
        uploaded_by=message.uploaded_by,
    )


def search_message(command: d.SearchCommand) -> pb.SearchRequest:
    """A search."""
    return pb.SearchRequest(
        collection_ids=command.collections,
        query=command.query,
        top_k=command.top_k,
        mode=convert.enum_number(pb.SearchMode, "SEARCH_MODE_", command.mode),
        min_similarity=command.min_similarity,
        filter=None if command.filter is None else _filter_message(command.filter),
        diversity=command.diversity,
        neighbours=command.neighbours,
        rerank=command.rerank,
    )


def _filter_message(node: d.DocumentFilter) -> pb.Filter:
    if isinstance(node, d.FilterGroup):
        made = pb.Filter()
        getattr(made, node.kind.value).filters.extend(_filter_message(child) for child in node.filters)
        return made
    condition = pb.Condition(
        field=node.field,
        operator=convert.enum_number(pb.Operator, "OPERATOR_", node.operator),
        values=[_value_message(value) for value in node.values],
    )
    return pb.Filter(condition=condition)


def search_result(message: pb.SearchResponse) -> d.SearchResult:
    """What a search found."""
    return d.SearchResult([_hit(hit) for hit in message.hits], message.degraded, message.reranked)


def _hit(message: pb.SearchHit) -> d.SearchHit:
    return d.SearchHit(
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
        metadata=_metadata(message.metadata),
        text_before=message.text_before,
        text_after=message.text_after,
        rerank_score=message.rerank_score if message.HasField("rerank_score") else None,
    )


def certificate_of(message: pb.DeletionCertificate) -> d.DeletionCertificate:
    """A certificate of a deletion."""
    return d.DeletionCertificate(
        id=message.id,
        kind=message.kind,
        target_id=message.target_id,
        requested_by=message.requested_by,
        requested_at=convert.moment(message, "requested_at"),
        documents=message.documents,
        chunks=message.chunks,
        bytes=message.bytes,
        proofs=[d.DeletionProof(p.place, p.looked_for, p.found, p.pending) for p in message.proofs],
        complete=message.complete,
        proven_at=convert.moment(message, "proven_at"),
    )


def _metadata(values: Mapping[str, pb.MetadataValue]) -> dict[str, d.MetadataValue]:
    return {name: getattr(value, value.WhichOneof("value") or "string_value") for name, value in sorted(values.items())}


def _value_message(value: d.MetadataValue) -> pb.MetadataValue:
    if isinstance(value, bool):
        return pb.MetadataValue(boolean_value=value)
    if isinstance(value, str):
        return pb.MetadataValue(string_value=value)
    return pb.MetadataValue(number_value=value)
