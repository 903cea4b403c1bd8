"""Everything the routes work with, made once by the composition root."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Protocol

from errand_common.tokens import TokenSigner
from fastapi import Depends, Request
from starlette.types import Scope

from errand_gateway.domain.admin import KeyStore, TenantStore
from errand_gateway.domain.admission import Admission
from errand_gateway.domain.auth import Authenticator, Credential
from errand_gateway.domain.documents import DocumentBackend
from errand_gateway.domain.erasures import TenantDeletions
from errand_gateway.domain.examples import ExampleBackend
from errand_gateway.domain.files import FileStore
from errand_gateway.domain.generation import ModelBackend
from errand_gateway.domain.health import ReadinessMonitor
from errand_gateway.domain.idempotency import Idempotency
from errand_gateway.domain.keys import Pepper
from errand_gateway.domain.limits import RateLimiter
from errand_gateway.domain.logins import ProviderLogins
from errand_gateway.domain.memory import MemoryBackend
from errand_gateway.domain.ports import AgentBackend, ToolBackend
from errand_gateway.domain.pricing import PriceTable
from errand_gateway.domain.privacy import PrivacyBackend
from errand_gateway.domain.prompts import PromptBackend
from errand_gateway.domain.quota_keeper import QuotaKeeper
from errand_gateway.domain.quotas import QuotaAdmin
from errand_gateway.domain.recent import Recent
from errand_gateway.domain.records import RecordReader
from errand_gateway.domain.responses import ResponseStore
from errand_gateway.domain.schedules import ScheduleBackend
from errand_gateway.domain.sessions import LoginThrottle, Sessions
from errand_gateway.domain.users import UserStore
from errand_gateway.domain.webhooks import WebhookBackend
from errand_gateway.domain.workflows import WorkflowBackend
from errand_gateway.transport.background import BackgroundRuns
from errand_gateway.transport.context import RequestContext
from errand_gateway.transport.internal_tokens import InternalTokens


class Changeable(Protocol):
    """What keeps rows for some seconds."""

    def forget(self) -> None:
        """They were changed: they are read anew."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """What a route may use."""

    authenticator: Authenticator
    credentials: Recent[str, Credential]
    pepper: Pepper
    keys: KeyStore
    tenants: TenantStore
    deletions: TenantDeletions
    users: UserStore
    sessions: Sessions
    logins: ProviderLogins
    throttle: LoginThrottle
    external: Changeable
    idempotency: Idempotency
    records: RecordReader
    responses: ResponseStore
    files: FileStore
    quotas: QuotaAdmin
    keeper: QuotaKeeper
    admission: Admission
    prices: PriceTable
    run_reserve_tokens: int
    background: BackgroundRuns
    record: Callable[[Scope, RequestContext, int], None]
    signer: TokenSigner
    tokens: InternalTokens
    limiter: RateLimiter
    readiness: ReadinessMonitor
    agents: AgentBackend
    workflows: WorkflowBackend
    memory: MemoryBackend
    examples: ExampleBackend
    privacy: PrivacyBackend
    schedules: ScheduleBackend
    prompts: PromptBackend
    webhooks: WebhookBackend
    documents: DocumentBackend
    tools: ToolBackend
    models: ModelBackend
    trusted_proxies: tuple[str, ...]
    max_upload_bytes: int
    require_if_match: bool
    public_url: str
    heartbeat_seconds: float


async def services_of(request: Request) -> Services:
    """The services of the app that answers this request; a plain function would be run in a thread."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(services_of)]
