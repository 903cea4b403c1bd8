"""Files and vector stores in OpenAI's format."""

import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from errand_gateway.domain.documents import Collection, Document, DocumentState, SearchHit
from errand_gateway.domain.files import StoredFile
from errand_gateway.transport.fields import SpokenText, Text
from errand_gateway.transport.openai.bodies import Part

PURPOSES: Final = ("assistants", "user_data")
_STATUS: Final = {
    DocumentState.PENDING: "in_progress",
    DocumentState.PROCESSING: "in_progress",
    DocumentState.READY: "completed",
    DocumentState.FAILED: "failed",
    DocumentState.CANCELLED: "cancelled",
}
_NAME: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{2,62}$")
_OTHER: Final = re.compile(r"[^A-Za-z0-9._-]+")


class StaticChunking(Part):
    """Chunks of one size."""

    max_chunk_size_tokens: int = Field(ge=32, le=256)
    chunk_overlap_tokens: int = Field(ge=0, le=128)


class Chunking(Part):
    """How documents are cut."""

    type: Literal["auto", "static"]
    static: StaticChunking | None = None


class NewVectorStore(Part):
    """A vector store to be made: a collection of documents."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "handbook"}]})

    name: Text | None = Field(default=None, max_length=256)
    description: Text | None = Field(default=None, max_length=1500)
    file_ids: list[Annotated[str, Field(max_length=64)]] | None = Field(default=None, max_length=20)
    chunking_strategy: Chunking | None = None


class NewVectorStoreFile(Part):
    """A file to be put into a vector store."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"file_id": "file_01"}]})

    file_id: str = Field(min_length=1, max_length=64)


class RankingOptions(Part):
    """Which passages are good enough."""

    ranker: Literal["auto"] | None = None
    score_threshold: float | None = Field(default=None, ge=0, le=1)


class VectorStoreSearch(Part):
    """What is looked for."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"query": "How many days of leave?", "max_num_results": 5}]}
    )

    query: (
        Annotated[SpokenText, Field(max_length=4096)]
        | Annotated[list[Annotated[SpokenText, Field(max_length=4096)]], Field(min_length=1, max_length=4)]
    )
    max_num_results: int = Field(default=10, ge=1, le=50)
    ranking_options: RankingOptions | None = None
    rewrite_query: Literal[False] | None = None


class ObjectList(BaseModel):
    """A page of a listing."""

    object: str = "list"
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class SearchPage(BaseModel):
    """Passages, best first."""

    object: str = "vector_store.search_results.page"
    search_query: list[str]
    data: list[dict[str, Any]]
    has_more: bool = False
    next_page: str | None = None


class Deleted(BaseModel):
    """That something is gone."""

    id: str
    object: str
    deleted: bool = True


def object_list(data: list[dict[str, Any]], *, has_more: bool) -> ObjectList:
    """A page with its first and last ids."""
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return ObjectList(data=data, first_id=first, last_id=last, has_more=has_more)


def collection_name(wanted: str | None) -> str:
    """A collection's name from a vector store's, which may be any text."""
    if wanted and _NAME.match(wanted):
        return wanted
    return f"{_OTHER.sub('-', wanted or 'store').strip('-._')[:40] or 'store'}-{secrets.token_hex(4)}"


def file_body(file: StoredFile) -> dict[str, Any]:
    """A file."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": _seconds(file.created_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    }


def store_body(collection: Collection, documents: Sequence[Document]) -> dict[str, Any]:
    """A collection as a vector store."""
    statuses = [_STATUS[document.state] for document in documents]
    counts = {name: statuses.count(name) for name in ("in_progress", "completed", "failed", "cancelled")}
    return {
        "id": collection.id,
        "object": "vector_store",
        "created_at": _seconds(collection.created_at),
        "name": collection.name,
        "description": collection.description,
        "usage_bytes": sum(document.size_bytes for document in documents),
        "file_counts": {**counts, "total": len(documents)},
        "status": "in_progress" if counts["in_progress"] else "completed",
        "last_active_at": _seconds(collection.created_at),
        "metadata": {},
    }


def store_file_body(document: Document, file_id: str) -> dict[str, Any]:
    """A document as a vector store's file."""
    failed = document.state is DocumentState.FAILED
    return {
        "id": file_id,
        "object": "vector_store.file",
        "created_at": _seconds(document.created_at),
        "vector_store_id": document.collection_id,
        "usage_bytes": document.size_bytes,
        "status": _STATUS[document.state],
        "last_error": {"code": "invalid_file", "message": document.failure} if failed else None,
        "attributes": {},
    }


def hit_body(hit: SearchHit, files: Mapping[str, str]) -> dict[str, Any]:
    """A passage; the score is its likeness to the query, 0 to 1."""
    return {
        "file_id": files.get(hit.document_id, hit.document_id),
        "filename": hit.filename,
        "score": round(min(1.0, max(0.0, hit.similarity)), 6),
        "attributes": {},
        "content": [{"type": "text", "text": hit.text}],
    }


def _seconds(moment: datetime | None) -> int:
    return int(moment.timestamp()) if moment else 0
