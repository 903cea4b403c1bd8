"""Certificates of deletions, and the deletion of all that a tenant or a person has."""

from typing import Annotated, Self

from errand_common.principal import Principal
from fastapi import Depends
from pydantic import ConfigDict, Field, model_validator

from errand_gateway.domain.documents import DeletionCertificate
from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import Page
from errand_gateway.transport.access import BODY_RESPONSES, NOT_FOUND, Requires, guarded_router
from errand_gateway.transport.fields import Body, PageDep, ResourceId, Text
from errand_gateway.transport.routes.collections import Reader
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/api/v1/deletions", tags=["documents"])

Eraser = Annotated[Principal, Depends(Requires(Permission.DATA_DELETE))]


class NewDeletion(Body):
    """Whose documents are deleted: one of both."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"principal_id": "usr_01"}, {"tenant_id": "acme"}]})

    principal_id: (
        Annotated[Text, Field(min_length=1, max_length=256, description="What this principal of the tenant uploaded.")]
        | None
    ) = None
    tenant_id: (
        Annotated[Text, Field(min_length=1, max_length=64, description="Everything; has to repeat your tenant's id.")]
        | None
    ) = None

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if (self.principal_id is None) is (self.tenant_id is None):
            raise ValueError("give either principal_id or tenant_id")
        return self


@router.post("", status_code=201, summary="Delete a person's or a tenant's documents", responses=BODY_RESPONSES)
async def delete_data(body: NewDeletion, services: ServicesDep, _caller: Eraser) -> DeletionCertificate:
    """Deletes the documents with their text and vectors; answers with the certificate."""
    return await services.documents.delete_data(tenant_id=body.tenant_id or "", principal_id=body.principal_id or "")


@router.get("", summary="List certificates of deletions")
async def list_deletions(page: PageDep, services: ServicesDep, _caller: Reader) -> Page[DeletionCertificate]:
    """The tenant's certificates, newest first, as they were last proven."""
    return await services.documents.list_deletions(page)


@router.get("/{deletion_id}", summary="Get the certificate of a deletion", responses=NOT_FOUND)
async def get_deletion(deletion_id: ResourceId, services: ServicesDep, _caller: Reader) -> DeletionCertificate:
    """As it stands now: what was not proven yet is looked for again."""
    return await services.documents.get_deletion(deletion_id)
