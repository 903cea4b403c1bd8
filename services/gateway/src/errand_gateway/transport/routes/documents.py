"""Documents of a collection."""

from collections.abc import AsyncIterator, Set
from typing import Annotated, Any, Final

from errand_common.errors import InvalidArgument, NotFound, TooLarge
from errand_common.principal import Principal
from fastapi import Depends, Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import Document, Page, StoredDocument
from errand_gateway.domain.uploads import store_document
from errand_gateway.transport.access import (
    BODY_RESPONSES,
    CONFLICT,
    NOT_FOUND,
    Requires,
    guarded_router,
)
from errand_gateway.transport.fields import PageDep, ResourceId
from errand_gateway.transport.routes.collections import Reader, Writer
from errand_gateway.transport.services import Services, ServicesDep
from errand_gateway.transport.spending import INGESTION_MODEL, hold_for_text, note_text

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
                        }
                    },
                }
            }
        },
    }
}
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
        file = file_of(form, services.max_upload_bytes, {"file"})
        await hold_for_text(request, services, caller, INGESTION_MODEL, file.size or 0)
        stored = await store_document(services.documents, collection_id, filename_of(file), _pieces(file))
        if not stored.duplicate:
            note_text(request, INGESTION_MODEL)
        return stored
    finally:
        await form.close()


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
    collection_id: ResourceId, page: PageDep, services: ServicesDep, _caller: Reader
) -> Page[Document]:
    """A collection's documents, newest first."""
    return await services.documents.list_documents(collection_id, page)


@router.get("/{document_id}", summary="Get a document", responses=NOT_FOUND)
async def get_document(
    collection_id: ResourceId, document_id: ResourceId, services: ServicesDep, _caller: Reader
) -> Document:
    """One document with the state of its ingestion."""
    return await _find(services, collection_id, document_id)


@router.delete("/{document_id}", status_code=204, summary="Delete a document", responses=NOT_FOUND)
async def delete_document(
    collection_id: ResourceId, document_id: ResourceId, services: ServicesDep, _caller: Writer
) -> None:
    """Deletes a document; searches miss it at once."""
    await _find(services, collection_id, document_id)
    await services.documents.delete_document(document_id)


@router.post(
    "/{document_id}/retry",
    summary="Try a failed ingestion again",
    responses={**NOT_FOUND, **CONFLICT},
)
async def retry_document(
    collection_id: ResourceId, document_id: ResourceId, services: ServicesDep, _caller: Writer
) -> Document:
    """Tries a failed ingestion again."""
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
