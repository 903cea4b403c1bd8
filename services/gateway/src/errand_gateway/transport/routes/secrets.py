"""Secrets that tools send: written, never read back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from errand_common.principal import Principal
from fastapi import Depends
from pydantic import AfterValidator, ConfigDict, Field, SecretStr

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.tool_resources import Secret
from errand_gateway.transport.access import BODY_RESPONSES, CONFLICT, NOT_FOUND, Requires, guarded_router
from errand_gateway.transport.fields import Body, ResourceName, Text
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/api/v1/secrets", tags=["tools"])

Writer = Annotated[Principal, Depends(Requires(Permission.TOOLS_WRITE))]

_EXAMPLE: Final[dict[str, Any]] = {"name": "shop-key", "value": "s3cr3t", "hosts": ["shop.example.com"]}


def _printable(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not (text.isascii() and text.isprintable()):
        raise ValueError("must be printable ASCII, as HTTP headers are")
    return value


class NewSecret(Body):
    """A secret to be stored."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    value: Annotated[
        SecretStr,
        AfterValidator(_printable),
        Field(min_length=1, max_length=8192, description="Sealed at rest; no answer, log or error shows it."),
    ]
    hosts: Annotated[
        tuple[Annotated[Text, Field(pattern=r"^[A-Za-z0-9.-]+$", max_length=253)], ...],
        Field(max_length=32, description="Where it may be sent; empty: every host a tool of the tenant names."),
    ] = ()


@dataclass(frozen=True, slots=True)
class Secrets:
    """All secrets of the tenant; it has at most 200."""

    items: Sequence[Secret]


@router.post("", status_code=201, summary="Store a secret", responses={**BODY_RESPONSES, **CONFLICT})
async def put_secret(body: NewSecret, services: ServicesDep, _caller: Writer) -> Secret:
    """Stores a secret under a name, over an older value of that name."""
    return await services.tools.put_secret(body.name, body.value.get_secret_value(), body.hosts)


@router.get("", summary="List secrets")
async def list_secrets(services: ServicesDep, _caller: Writer) -> Secrets:
    """The secrets by name, without their values."""
    return Secrets(await services.tools.list_secrets())


@router.delete("/{name}", status_code=204, summary="Remove a secret", responses=NOT_FOUND)
async def delete_secret(name: ResourceName, services: ServicesDep, _caller: Writer) -> None:
    """Removes a secret; calls of tools that name it are denied from then on."""
    await services.tools.delete_secret(name)
