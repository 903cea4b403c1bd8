"""Everything the routes work with, made once by the composition root."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from errand_common.tokens import TokenSigner
from errand_gateway.domain.auth import Authenticator
from errand_gateway.domain.health import ReadinessMonitor
from errand_gateway.domain.limits import RateLimiter
from errand_gateway.domain.ports import AgentBackend, DocumentBackend, ToolBackend


@dataclass(frozen=True, slots=True)
class Services:
    """What a route may use."""

    authenticator: Authenticator
    signer: TokenSigner
    limiter: RateLimiter
    readiness: ReadinessMonitor
    agents: AgentBackend
    documents: DocumentBackend
    tools: ToolBackend
    max_upload_bytes: int
    heartbeat_seconds: float


def services_of(request: Request) -> Services:
    """The services of the app that answers this request."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(services_of)]
