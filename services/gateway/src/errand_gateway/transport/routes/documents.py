"""Documents of a collection."""

from collections.abc import AsyncIterator, Set
from contextlib import aclosing
from typing import Annotated, Any, Final

from errand_common.errors import InvalidArgument, NotFound, TooLarge
from errand_common.principal import Principal
from fastapi import Depends, Query, Request, Response
from pydantic import ConfigDict, Field
from sse_starlette import ServerSentEvent
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from errand_gateway.domain.documents import DeletionCertificate, Document, DocumentState, NewDocument, StoredDocument
from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import Page
from errand_gateway.domain.uploads import store_document
from errand_gateway.transport.access import (
    BODY_RESPONSES,
    CONFLICT,
    NOT_FOUND,
    Requires,
    guarded_router,
)
from errand_gateway.transport.context import context_of
from errand_gateway.transport.document_bodies import Metadata, described
from errand_gateway.transport.errors import ErrorBody
from errand_gateway.transport.fields import Body, PageDep, ResourceId, Text
from errand_gateway.transport.routes.collections import Reader, Writer
from errand_gateway.transport.services import Services, ServicesDep
from errand_gateway.transport.spending import INGESTION_MODEL, hold_for_text, note_text
from errand_gateway.transport.sse import EVENT_SCHEMA, event, event_stream, started

router = guarded_router(prefix="/api/v1/collections/{collection_id}/documents", tags=["documents"])

_PIECE_BYTES: Final = 256 * 1024
_UPLOAD_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "PDF, DOCX, HTML, Markdown or text.",
                        },
                        "metadata": {
                            "type": "string",
                            "description": "JSON object of up to 32 texts, numbers and booleans; filters compare them.",
                            "contentMediaType": "application/json",
                            "examples": ['{"year": 2025, "team": "legal"}'],
                        },
                        "priority": {
                            "type": "string",
                            "pattern": "^[0-9]$",
                            "description": "Higher is ingested sooner.",
                        },
                    },
                }
            }
        },
    }
}
NOT_OFFERED: Final[dict[int | str, dict[str, Any]]] = {
    501: {"model": ErrorBody, "description": "The operator has named no hosts to fetch from."}
}
Watcher = Annotated[Principal, Depends(Requires(Permission.DOCUMENTS_READ, seconds=3600.0))]
Uploader = Annotated[Principal, Depends(Requires(Permission.DOCUMENTS_WRITE, media="multipart/form-data"))]


@router.post(
    "",
    status_code=202,
    summary="Upload a document",
    openapi_extra=_UPLOAD_BODY,
    responses={**BODY_RESPONSES, **NOT_FOUND, **CONFLICT},
)
async def upload_document(
    collection_id: ResourceId, request: Request, services: ServicesDep, caller: Uploader
) -> StoredDocument:
    """Stores a document; ingestion goes on in the background and its `state` tells how far it is.

    A collection named `default` is made when it is missing. The same bytes sent again give the
    document that is there already, with `duplicate` set.
    """
    form = await read_form(request)
    try:
        file = file_of(form, services.max_upload_bytes, {"file", "metadata", "priority"})
        new = described(filename_of(file), form.get("metadata"), form.get("priority"))
        await hold_for_text(request, services, caller, INGESTION_MODEL, file.size or 0)
        stored = await store_document(services.documents, collection_id, new, _pieces(file))
        if not stored.duplicate:
            note_text(request, INGESTION_MODEL)
        return stored
    finally:
        await form.close()


class NewFetch(Body):
    """A document by its URL."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"url": "https://docs.example.com/guide.html", "metadata": {"year": 2025}}]}
    )

    url: Annotated[Text, Field(min_length=1, max_length=2048, description="http or https, without user name.")]
    filename: Annotated[
        Text, Field(max_length=255, description="Empty takes host and path. The same name again is a new version.")
    ] = ""
    metadata: Metadata = Field(default={})
    priority: Annotated[int, Field(ge=0, le=9, description="Higher is ingested sooner.")] = 0


@router.post(
    "/fetch",
    status_code=202,
    summary="Fetch a document from a URL",
    responses={**BODY_RESPONSES, **NOT_FOUND, **CONFLICT, **NOT_OFFERED},
)
async def fetch_document(
    collection_id: ResourceId, body: NewFetch, request: Request, services: ServicesDep, caller: Writer
) -> StoredDocument:
    """Fetches it from a host that the operator allows and stores it as an upload is."""
    await hold_for_text(request, services, caller, INGESTION_MODEL, 0)
    new = NewDocument(body.filename, body.metadata, body.priority)
    stored = await services.documents.fetch(collection_id, body.url, new)
    if not stored.duplicate:
        note_text(request, INGESTION_MODEL, size=stored.document.size_bytes)
    return stored


async def read_form(request: Request) -> FormData:
    """The multipart form; raises InvalidArgument when it cannot be read."""
    try:
        return await request.form(max_files=1, max_fields=4)
    except HTTPException as error:
        if error.status_code != 400:
            raise
        raise InvalidArgument(f"the multipart body cannot be read: {error.detail}", field="body") from error


def file_of(form: FormData, limit: int, fields: Set[str]) -> UploadFile:
    """The form's file; raises InvalidArgument for other fields than these, TooLarge."""
    file = form.get("file")
    unknown = sorted(set(form.keys()) - fields)
    if unknown:
        raise InvalidArgument(f"the form field {unknown[0]!r} is not known", field=unknown[0])
    if not isinstance(file, UploadFile):
        raise InvalidArgument("send the document as a form field named 'file'", field="file")
    if not file.size:
        raise InvalidArgument("the document is empty", field="file")
    if file.size > limit:
        raise TooLarge(f"the document has more than {limit} bytes", field="file", limit=limit)
    return file


def filename_of(file: UploadFile) -> str:
    """The file's name without folders; raises InvalidArgument."""
    name = (file.filename or "").replace("\\", "/").rsplit("/", 1)[-1].strip()
    if not name or "\x00" in name or len(name) > 255:
        raise InvalidArgument("the file needs a name of 1 to 255 characters", field="file.filename")
    return name


async def _pieces(file: UploadFile) -> AsyncIterator[bytes]:
    while piece := await file.read(_PIECE_BYTES):
        yield piece


@router.get("", summary="List documents", responses=NOT_FOUND)
async def list_documents(
    collection_id: ResourceId,
    page: PageDep,
    services: ServicesDep,
    _caller: Reader,
    state: Annotated[DocumentState | None, Query(description="Only these; `failed` lists the dead letters.")] = None,
) -> Page[Document]:
    """A collection's documents, newest first."""
    return await services.documents.list_documents(collection_id, page, state)


@router.get("/{document_id}", summary="Get a document", responses=NOT_FOUND)
async def get_document(
    collection_id: ResourceId, document_id: ResourceId, services: ServicesDep, _caller: Reader
) -> Document:
    """One document with the state of its ingestion."""
    return await _find(services, collection_id, document_id)


@router.get(
    "/{document_id}/events",
    summary="Follow an ingestion",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events, each the document as it is then.",
            "content": {
                "text/event-stream": {
                    "schema": EVENT_SCHEMA,
                    "example": 'id: 1\nevent: document\ndata: {"state":"processing","progress_percent":40}\n\n',
                }
            },
        },
        **NOT_FOUND,
    },
)
async def document_events(
    collection_id: ResourceId, document_id: ResourceId, request: Request, services: ServicesDep, _caller: Watcher
) -> Response:
    """The document now and at each change of its state or progress, until its ingestion ends."""
    await _find(services, collection_id, document_id)
    context = context_of(request.scope)
    context.streamed = True
    steps = await started(services.documents.watch_document(document_id))
    return event_stream(
        _told(steps),
        request_id=context.request_id,
        path=request.url.path,
        heartbeat_seconds=services.heartbeat_seconds,
    )


async def _told(steps: AsyncIterator[Document]) -> AsyncIterator[ServerSentEvent]:
    number = 0
    async with aclosing(steps) as open_steps:  # type: ignore[type-var]
        async for document in open_steps:
            number += 1
            yield event("document", document, number=number)


@router.delete("/{document_id}", summary="Delete a document", responses=NOT_FOUND)
async def delete_document(
    collection_id: ResourceId, document_id: ResourceId, services: ServicesDep, _caller: Writer
) -> DeletionCertificate:
    """Deletes a document; searches miss it at once. Answers with the certificate of what went."""
    await _find(services, collection_id, document_id)
    return await services.documents.delete_document(document_id)


@router.post("/{document_id}/cancel", summary="Stop an ingestion", responses={**NOT_FOUND, **CONFLICT})
async def cancel_document(
    collection_id: ResourceId, document_id: ResourceId, services: ServicesDep, _caller: Writer
) -> Document:
    """Stops an ingestion that has not ended; the document stays and can be tried again."""
    await _find(services, collection_id, document_id)
    return await services.documents.cancel_document(document_id)


@router.post(
    "/{document_id}/retry",
    summary="Try a failed ingestion again",
    responses={**NOT_FOUND, **CONFLICT},
)
async def retry_document(
    collection_id: ResourceId, document_id: ResourceId, services: ServicesDep, _caller: Writer
) -> Document:
    """Tries a failed or cancelled ingestion again."""
    await _find(services, collection_id, document_id)
    return await services.documents.retry_document(document_id)


async def _find(services: Services, collection_id: str, document_id: str) -> Document:
    """The document, when it is in that collection; raises NotFound."""
    document = await services.documents.get_document(document_id)
    if document.collection_id != collection_id:
        collection = await services.documents.get_collection(collection_id)
        if document.collection_id != collection.id:
            raise NotFound("document", document_id)
    return document
