"""/v1/files, as OpenAI's clients call them."""

from typing import Annotated, Any, Final

from errand_common.db import new_id, utc_now
from errand_common.errors import InvalidArgument, Unsupported
from errand_common.principal import Principal
from fastapi import Depends, Query, Request, Response
from starlette.datastructures import FormData

from errand_gateway.domain.files import StoredFile
from errand_gateway.domain.permissions import Permission
from errand_gateway.transport.access import Requires, openai_router
from errand_gateway.transport.fields import ResourceId
from errand_gateway.transport.openai.vector_bodies import PURPOSES, Deleted, ObjectList, file_body, object_list
from errand_gateway.transport.routes.documents import file_of, filename_of, read_form
from errand_gateway.transport.services import ServicesDep

router = openai_router(prefix="/v1/files", tags=["openai"])

Reader = Annotated[Principal, Depends(Requires(Permission.DOCUMENTS_READ))]
Writer = Annotated[Principal, Depends(Requires(Permission.DOCUMENTS_WRITE))]
Uploader = Annotated[Principal, Depends(Requires(Permission.DOCUMENTS_WRITE, media="multipart/form-data"))]
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": list(PURPOSES)},
                    },
                }
            }
        },
    }
}


@router.post("", summary="Upload a file", openapi_extra=_BODY)
async def create_file(request: Request, services: ServicesDep, caller: Uploader) -> dict[str, Any]:
    """Keeps a file, to be put into vector stores."""
    form = await read_form(request)
    try:
        purpose = _purpose(form)
        upload = file_of(form, services.max_upload_bytes, {"file", "purpose"})
        content = await upload.read()
        file = StoredFile(
            id=new_id("file"),
            tenant_id=caller.tenant_id,
            filename=filename_of(upload),
            purpose=purpose,
            size_bytes=len(content),
            created_at=utc_now(),
        )
        await services.files.add(file, content)
    finally:
        await form.close()
    return file_body(file)


def _purpose(form: FormData) -> str:
    purpose = form.get("purpose")
    if not isinstance(purpose, str):
        raise InvalidArgument("send the purpose, 'assistants' or 'user_data'", field="purpose")
    if purpose not in PURPOSES:
        raise Unsupported(f"purpose={purpose[:32]!r} is not supported here", feature="purpose")
    return purpose


@router.get("", summary="List files")
async def list_files(
    services: ServicesDep,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    order: Annotated[str, Query(pattern="^(asc|desc)$")] = "desc",
    after: Annotated[str, Query(max_length=64, description="Files after this id.")] = "",
    purpose: Annotated[str, Query(max_length=32, description="Only of this purpose.")] = "",
) -> ObjectList:
    """The tenant's files, newest first."""
    files, more = await services.files.list(
        caller.tenant_id, after=after, limit=limit, newest_first=order == "desc", purpose=purpose
    )
    return object_list([file_body(file) for file in files], has_more=more)


@router.get("/{file_id}", summary="Get a file")
async def get_file(file_id: ResourceId, services: ServicesDep, caller: Reader) -> dict[str, Any]:
    """One file without its content."""
    return file_body(await services.files.get(caller.tenant_id, file_id))


@router.get(
    "/{file_id}/content",
    summary="Get a file's content",
    response_class=Response,
    responses={200: {"description": "The bytes.", "content": {"application/octet-stream": {}}}},
)
async def get_file_content(file_id: ResourceId, services: ServicesDep, caller: Reader) -> Response:
    """The bytes as they were sent."""
    content = await services.files.content(caller.tenant_id, file_id)
    # Never shown by a browser as what it may pretend to be.
    headers = {"Content-Disposition": "attachment"}
    return Response(content, media_type="application/octet-stream", headers=headers)


@router.delete("/{file_id}", summary="Delete a file")
async def delete_file(file_id: ResourceId, services: ServicesDep, caller: Writer) -> Deleted:
    """Deletes a file; vector stores keep what was put into them."""
    await services.files.delete(caller.tenant_id, file_id)
    return Deleted(id=file_id, object="file")
