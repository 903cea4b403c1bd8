"""An API key becomes a short-lived token for the gRPC services."""

from typing import Annotated, Final

from errand_common.principal import Principal
from fastapi import Depends
from pydantic import BaseModel, Field

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.quotas import Spend
from errand_gateway.transport.access import Requires, guarded_router
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/api/v1", tags=["auth"])

TOKEN_SECONDS: Final = 300


class Token(BaseModel):
    """Send it as metadata `authorization: Bearer TOKEN` of gRPC calls."""

    access_token: str = Field(examples=["eyJhbGciOiJFZERTQSJ9.e30.c2ln"])
    token_type: str = "Bearer"  # noqa: S105 - the scheme's name
    expires_in: int = Field(description="Seconds.")


@router.post("/token", summary="Get a token for the gRPC services")
async def create_token(
    services: ServicesDep,
    caller: Annotated[Principal, Depends(Requires(Permission.TOKENS_CREATE))],
) -> Token:
    """A token that says who you are and what you may do, for five minutes."""
    # What is done with the token is not counted here, so a caller whose quota is spent gets none.
    reservation = await services.keeper.reserve(caller, Spend(tokens=1, cost_micros=1))
    reservation.settle(Spend())
    text = services.signer.sign(caller, ttl_seconds=TOKEN_SECONDS)
    return Token(access_token=text, expires_in=TOKEN_SECONDS)
