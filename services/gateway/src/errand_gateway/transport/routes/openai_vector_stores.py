"""/v1/vector_stores, as OpenAI's clients call them: the tenant's collections of documents."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Final, TypeVar

from errand_common.errors import NotFound
from errand_common.principal import Principal
from fastapi import Depends, Query, Request

from errand_gateway.domain.documents import Collection, Document, NewCollection, NewDocument, SearchCommand, SearchHit
from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import PageQuery
from errand_gateway.domain.uploads import store_document
from errand_gateway.transport.access import Requires, openai_router
from errand_gateway.transport.fields import ResourceId
from errand_gateway.transport.openai import vector_bodies as bodies
from errand_gateway.transport.services import Services, ServicesDep
from errand_gateway.transport.spending import INGESTION_MODEL, SEARCH_MODEL, hold_for_text, note_text

router = openai_router(prefix="/v1/vector_stores", tags=["openai"])

Reader = Annotated[Principal, Depends(Requires(Permission.DOCUMENTS_READ))]
Writer = Annotated[Principal, Depends(Requires(Permission.DOCUMENTS_WRITE))]
Limit = Annotated[int, Query(ge=1, le=100)]
Order = Annotated[str, Query(pattern="^(asc|desc)$")]
After = Annotated[str, Query(max_length=64, description="Rows after this id.")]
T = TypeVar("T")
_PIECE_BYTES: Final = 256 * 1024
_MOST_ROWS: Final = 2_000


@router.post("", summary="Make a vector store")
async def create_vector_store(
    body: bodies.NewVectorStore, request: Request, services: ServicesDep, caller: Writer
) -> dict[str, Any]:
    """A new collection, with the files named in it; other characters of its name become '-'."""
    files = [await services.files.get(caller.tenant_id, file_id) for file_id in body.file_ids or ()]
    chunking = body.chunking_strategy.static if body.chunking_strategy else None
    new = NewCollection(
        bodies.collection_name(body.name),
        body.description or body.name or "",
        chunk_tokens=chunking.max_chunk_size_tokens if chunking else 0,
        chunk_overlap_tokens=chunking.chunk_overlap_tokens if chunking else 0,
    )
    collection = await services.documents.create_collection(new)
    await hold_for_text(request, services, caller, INGESTION_MODEL, sum(file.size_bytes for file in files))
    for file in files:
        await _put(services, caller, collection.id, file.id)
    if files:
        note_text(request, INGESTION_MODEL)
    return bodies.store_body(collection, await _documents(services, collection.id))


@router.get("", summary="List vector stores")
async def list_vector_stores(
    services: ServicesDep, _caller: Reader, limit: Limit = 20, order: Order = "desc", after: After = ""
) -> bodies.ObjectList:
    """The tenant's collections, newest first."""
    found: list[Collection] = []
    page = PageQuery(size=200)
    while len(found) < _MOST_ROWS:
        listed = await services.documents.list_collections(page)
        found += listed.items
        if not listed.next_page_token:
            break
        page = PageQuery(size=200, token=listed.next_page_token)
    found = found[::-1] if order == "desc" else found
    chosen, more = _window(found, [row.id for row in found], after, limit)
    rows = [bodies.store_body(row, await _documents(services, row.id)) for row in chosen]
    return bodies.object_list(rows, has_more=more)


@router.get("/{store_id}", summary="Get a vector store")
async def get_vector_store(store_id: ResourceId, services: ServicesDep, _caller: Reader) -> dict[str, Any]:
    """One collection; counts are of its first 2,000 documents."""
    collection = await services.documents.get_collection(store_id)
    return bodies.store_body(collection, await _documents(services, collection.id))


@router.delete("/{store_id}", summary="Delete a vector store")
async def delete_vector_store(store_id: ResourceId, services: ServicesDep, caller: Writer) -> bodies.Deleted:
    """Deletes a collection with its documents; files stay."""
    collection = await services.documents.get_collection(store_id)
    await services.documents.delete_collection(collection.id)
    await services.files.unlink(caller.tenant_id, collection.id)
    return bodies.Deleted(id=store_id, object="vector_store.deleted")


@router.post("/{store_id}/search", summary="Search a vector store")
async def search_vector_store(
    store_id: ResourceId, body: bodies.VectorStoreSearch, request: Request, services: ServicesDep, caller: Reader
) -> bodies.SearchPage:
    """Passages, best first; several queries are searched one by one."""
    queries = [body.query] if isinstance(body.query, str) else body.query
    await hold_for_text(request, services, caller, SEARCH_MODEL, sum(len(query.encode()) for query in queries))
    least = body.ranking_options.score_threshold if body.ranking_options else None
    best: dict[str, SearchHit] = {}
    for query in queries:
        command = SearchCommand(query, [store_id], body.max_num_results, min_similarity=least or 0.0)
        for hit in (await services.documents.search(command)).hits:
            if hit.chunk_id not in best or best[hit.chunk_id].score < hit.score:
                best[hit.chunk_id] = hit
    note_text(request, SEARCH_MODEL)
    hits = sorted(best.values(), key=lambda hit: -hit.score)[: body.max_num_results]
    collection = await services.documents.get_collection(store_id)
    files = await _file_ids(services, caller, collection.id)
    return bodies.SearchPage(search_query=queries, data=[bodies.hit_body(hit, files) for hit in hits])


@router.post("/{store_id}/files", summary="Put a file into a vector store")
async def create_vector_store_file(
    store_id: ResourceId, body: bodies.NewVectorStoreFile, request: Request, services: ServicesDep, caller: Writer
) -> dict[str, Any]:
    """Takes the file in as a document; its status tells how far it is."""
    file = await services.files.get(caller.tenant_id, body.file_id)
    collection = await services.documents.get_collection(store_id)
    await hold_for_text(request, services, caller, INGESTION_MODEL, file.size_bytes)
    document = await _put(services, caller, collection.id, file.id)
    note_text(request, INGESTION_MODEL)
    return bodies.store_file_body(document, file.id)


@router.get("/{store_id}/files", summary="List a vector store's files")
async def list_vector_store_files(
    store_id: ResourceId,
    services: ServicesDep,
    caller: Reader,
    limit: Limit = 20,
    order: Order = "desc",
    after: After = "",
) -> bodies.ObjectList:
    """A collection's documents, newest first; those that came another way have their document's id."""
    collection = await services.documents.get_collection(store_id)
    documents = await _documents(services, collection.id)
    files = await _file_ids(services, caller, collection.id)
    rows = [bodies.store_file_body(row, files.get(row.id, row.id)) for row in documents]
    rows = rows if order == "desc" else rows[::-1]
    chosen, more = _window(rows, [row["id"] for row in rows], after, limit)
    return bodies.object_list(list(chosen), has_more=more)


@router.get("/{store_id}/files/{file_id}", summary="Get a vector store's file")
async def get_vector_store_file(
    store_id: ResourceId, file_id: ResourceId, services: ServicesDep, caller: Reader
) -> dict[str, Any]:
    """One document with the state of its ingestion."""
    return bodies.store_file_body(await _document(services, caller, store_id, file_id), file_id)


@router.delete("/{store_id}/files/{file_id}", summary="Take a file out of a vector store")
async def delete_vector_store_file(
    store_id: ResourceId, file_id: ResourceId, services: ServicesDep, caller: Writer
) -> bodies.Deleted:
    """Deletes the document; the file stays."""
    document = await _document(services, caller, store_id, file_id)
    await services.documents.delete_document(document.id)
    await services.files.unlink(caller.tenant_id, document.collection_id, document.id)
    return bodies.Deleted(id=file_id, object="vector_store.file.deleted")


def _window(rows: Sequence[T], ids: Sequence[str], after: str, limit: int) -> tuple[Sequence[T], bool]:
    """The rows after an id, and whether there are more; raises NotFound."""
    if after and after not in ids:
        raise NotFound("row", after)
    start = ids.index(after) + 1 if after else 0
    return rows[start : start + limit], len(rows) > start + limit


async def _put(services: Services, caller: Principal, collection_id: str, file_id: str) -> Document:
    file = await services.files.get(caller.tenant_id, file_id)
    content = await services.files.content(caller.tenant_id, file_id)
    stored = await store_document(services.documents, collection_id, NewDocument(file.filename), _pieces(content))
    await services.files.link(caller.tenant_id, collection_id, file_id, stored.document.id)
    return stored.document


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), _PIECE_BYTES):
        yield content[start : start + _PIECE_BYTES]


async def _documents(services: Services, collection_id: str) -> list[Document]:
    found: list[Document] = []
    page = PageQuery(size=200)
    while len(found) < _MOST_ROWS:
        listed = await services.documents.list_documents(collection_id, page)
        found += listed.items
        if not listed.next_page_token:
            break
        page = PageQuery(size=200, token=listed.next_page_token)
    return found


async def _file_ids(services: Services, caller: Principal, collection_id: str) -> dict[str, str]:
    linked = await services.files.documents_of(caller.tenant_id, collection_id)
    return {document_id: file_id for file_id, document_id in linked.items()}


async def _document(services: Services, caller: Principal, store_id: str, file_id: str) -> Document:
    collection = await services.documents.get_collection(store_id)
    linked = await services.files.documents_of(caller.tenant_id, collection.id)
    document = await services.documents.get_document(linked.get(file_id, file_id))
    if document.collection_id != collection.id:
        raise NotFound("file", file_id)
    return document
