"""Composition root: one function builds the app, one lifespan opens and closes its resources."""

import asyncio
import contextlib
import functools
import secrets
from collections.abc import AsyncIterator, Coroutine
from datetime import timedelta
from typing import Any

import grpc.aio
import structlog
from errand_common.db import Database, migrate, new_id, utc_now
from errand_common.personal_data import PersonalDataPolicy
from errand_common.rpc.client import create_channel
from errand_common.tokens import KeySet, TokenSigner, generate_signing_key
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig

from errand_gateway.clients.access_tokens import JwtAccessTokens
from errand_gateway.clients.agent import (
    GrpcExampleBackend,
    GrpcPrivacyBackend,
    GrpcPromptBackend,
    GrpcWebhookBackend,
)
from errand_gateway.clients.circuits import Circuit, guarding
from errand_gateway.clients.external_tokens import ExternalTokens, Issuer
from errand_gateway.clients.health import GrpcHealthProbe
from errand_gateway.clients.inference import GrpcModelBackend
from errand_gateway.clients.oidc import OidcProvider
from errand_gateway.clients.passwords import Argon2PasswordHasher
from errand_gateway.clients.rag import GrpcDocumentBackend
from errand_gateway.clients.screening import (
    ScreenedAgentBackend,
    ScreenedMemoryBackend,
    ScreenedScheduleBackend,
    ScreenedWorkflowBackend,
)
from errand_gateway.clients.tools import GrpcToolBackend
from errand_gateway.domain.admin import bootstrap
from errand_gateway.domain.admission import Admission
from errand_gateway.domain.auth import Authenticator
from errand_gateway.domain.erasures import TenantDeletions
from errand_gateway.domain.health import Probe, ReadinessMonitor
from errand_gateway.domain.idempotency import Idempotency
from errand_gateway.domain.keys import Pepper
from errand_gateway.domain.limits import ConcurrencyLimiter
from errand_gateway.domain.logins import ProviderLogins
from errand_gateway.domain.personal_data import FormMasker, MaskedResponses, Masker, Screening
from errand_gateway.domain.pricing import Price, PriceTable
from errand_gateway.domain.quota_keeper import QuotaKeeper
from errand_gateway.domain.recent import Recent
from errand_gateway.domain.records import Recorder
from errand_gateway.domain.responses import ResponseStore
from errand_gateway.domain.sessions import Sessions
from errand_gateway.settings import GatewaySettings, IssuerSetting, LoginProviderSetting
from errand_gateway.storage.concurrency import ConcurrencyLimits, LocalConcurrencyLimiter, ValkeyConcurrencyLimiter
from errand_gateway.storage.erasures import SqlDeletionRepository
from errand_gateway.storage.files import SqlFileRepository
from errand_gateway.storage.followed import SqlFollowedRepository
from errand_gateway.storage.idempotency import AesSeal, SqlAnswerRepository
from errand_gateway.storage.journal import FileJournal
from errand_gateway.storage.keys import SqlKeyRepository
from errand_gateway.storage.limits import (
    Fallback,
    LimitStorage,
    WindowLoginThrottle,
    WindowRateLimiter,
    WindowTokenLimiter,
    limit_storage,
)
from errand_gateway.storage.models import SCHEMA
from errand_gateway.storage.quotas import SqlQuotaRepository
from errand_gateway.storage.records import SqlRecordRepository
from errand_gateway.storage.responses import SqlResponseRepository
from errand_gateway.storage.secret_files import read_or_make
from errand_gateway.storage.tenants import SqlTenantRepository
from errand_gateway.storage.users import SqlSessionRepository, SqlUserRepository
from errand_gateway.telemetry import DELETION_FAILURES, QUOTA_FAILURES, ObservedKeeper, ObservedLimiter, ObservedModels
from errand_gateway.transport.access import RATE_LIMIT_HEADERS
from errand_gateway.transport.background import BackgroundRuns
from errand_gateway.transport.description import GatewayApp
from errand_gateway.transport.dispatch import add_routes
from errand_gateway.transport.errors import install_error_handlers
from errand_gateway.transport.idempotency import Replayed, on_replayed
from errand_gateway.transport.internal_tokens import InternalTokens
from errand_gateway.transport.middleware import BodyLimits, EdgeMiddleware
from errand_gateway.transport.recording import RECORDS_DROPPED, RECORDS_RECOVERED, record_request
from errand_gateway.transport.routes import ROUTERS, chat_socket, oidc
from errand_gateway.transport.routes.public import docs_assets
from errand_gateway.transport.services import Services

_log = structlog.get_logger(__name__)
SERVICE = "gateway"
# Our own root span tells of a request; the framework's four more of each would double what tracing costs.
_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
DESCRIPTION = """The public door of Errand: agents that answer with tools and with your documents.

Send an API key as `Authorization: Bearer KEY` or `X-API-Key: KEY`. Every error has one body: `code`,
`message`, `details`, `request_id`. Listings take `page_size` and `page_token`."""


def migrate_database(settings: GatewaySettings) -> None:
    """Brings the gateway's tables to the newest version."""
    migrate(settings.database(SERVICE), package="errand_gateway.storage.migrations", schema=SCHEMA)


def build_app(settings: GatewaySettings) -> FastAPI:
    """The app; its resources are opened when it starts."""
    recorder = Recorder(
        flush_seconds=settings.record_flush_seconds,
        on_dropped=RECORDS_DROPPED.inc,
        on_failure=lambda error: _log.error("records_not_written", error=type(error).__name__),
    )

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_services(settings, recorder) as services:
            app.state.services = services
            yield

    app = GatewayApp(
        title="Errand",
        version="0.1.0",
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry=_NO_TELEMETRY,
        redirect_slashes=False,
    )
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    install_error_handlers(app, routes)
    app.add_exception_handler(Replayed, on_replayed)
    add_routes(app, routes)
    app.router.routes.append(chat_socket.route)
    app.mount("/docs/assets", docs_assets(), name="docs-assets")
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            # Keys are sent in headers; cookies are not used, so a page cannot borrow a person's session.
            allow_headers=["*"],
            expose_headers=["X-Request-ID", "ETag", "Location", "Retry-After", *RATE_LIMIT_HEADERS],
            max_age=600,
        )
    mebibyte = 1024 * 1024
    app.add_middleware(
        EdgeMiddleware,
        limits=BodyLimits(
            json_bytes=settings.json_body_mebibytes * mebibyte,
            upload_bytes=settings.upload_mebibytes * mebibyte,
        ),
        record=functools.partial(record_request, recorder),
    )
    return app


@contextlib.asynccontextmanager
async def open_services(settings: GatewaySettings, recorder: Recorder) -> AsyncIterator[Services]:
    """Opens database, channels and background work; closes them at the end."""
    async with contextlib.AsyncExitStack() as stack:
        database = Database(settings.database(SERVICE), schema=SCHEMA)
        stack.push_async_callback(database.close)
        keys = SqlKeyRepository(database)
        tenants = SqlTenantRepository(database)
        records = SqlRecordRepository(database)
        pepper = read_pepper(settings)
        bootstrap_key = settings.bootstrap_admin_key
        await bootstrap(
            tenants,
            keys,
            pepper,
            bootstrap_key.get_secret_value() if bootstrap_key else None,
            key_id=new_id("key"),
            now=utc_now(),
        )
        await stack.enter_async_context(_recording(recorder, records, settings))
        channels = await _open_channels(stack, settings)
        credentials = Recent(keys.find)
        quotas = SqlQuotaRepository(database)
        keeper = ObservedKeeper(quotas, holder=new_id("gw"), now=utc_now, on_failure=_quota_failure)
        await stack.enter_async_context(_keeping(keeper, settings.drain_seconds))
        storage = await stack.enter_async_context(limit_storage(settings.rate_limit_storage.get_secret_value()))
        fallback = Fallback(settings.rate_limit_on_failure)
        signer = read_signer(settings)
        users = SqlUserRepository(database)
        throttle = WindowLoginThrottle(settings.login_limit, settings.login_address_limit, storage.windows, fallback)
        sessions = Sessions(
            SqlSessionRepository(database),
            users,
            Argon2PasswordHasher(),
            JwtAccessTokens(signer, seconds=settings.access_token_seconds),
            throttle,
            secret=pepper.derived("refresh tokens"),
            lifetime=timedelta(days=settings.session_days),
            now=utc_now,
            new_id=new_id,
        )
        external = ExternalTokens(_issuers(settings), tenants.get)
        screening = Screening(settings.personal_data, await _masker(settings))
        agents = ScreenedAgentBackend(channels["agent"], screening)
        workflows = ScreenedWorkflowBackend(channels["agent"], screening)
        tokens = InternalTokens(signer)
        documents = GrpcDocumentBackend(channels["rag"])
        tools = GrpcToolBackend(channels["tools"])
        privacy = GrpcPrivacyBackend(channels["agent"])
        deletion_rows = SqlDeletionRepository(database)
        deletions = TenantDeletions(
            deletion_rows,
            {
                "gateway": deletion_rows.erase,
                "agent": privacy.erase_tenant,
                "rag": documents.erase_tenant,
                "tools": tools.erase_tenant,
            },
            owner=new_id("gw"),
            acting_as=tokens.acting_as,
            record=functools.partial(recorder.record, usage=None),
            on_failure=_deletion_failure,
            settle=timedelta(seconds=settings.deletion_settle_seconds),
            now=utc_now,
        )
        await stack.enter_async_context(_running(deletions.run()))
        followed = SqlFollowedRepository(database)
        background = BackgroundRuns(agents, workflows, tokens, recorder, followed, keeper, owner=new_id("gw"))
        stack.push_async_callback(background.close)
        await stack.enter_async_context(_running(background.run()))
        yield Services(
            authenticator=Authenticator(credentials, pepper, [sessions, external]),
            credentials=credentials,
            pepper=pepper,
            keys=keys,
            tenants=tenants,
            deletions=deletions,
            users=users,
            sessions=sessions,
            logins=ProviderLogins(
                {provider.name: _provider(provider, settings) for provider in settings.login_providers},
                sessions,
                users,
                tenants.get,
                AesSeal(pepper.derived("browser logins")),
                return_urls=frozenset(settings.login_return_urls),
                now=utc_now,
            ),
            throttle=throttle,
            external=external,
            idempotency=Idempotency(SqlAnswerRepository(database), AesSeal(pepper.derived("kept answers")), utc_now),
            records=records,
            responses=_responses(screening, database),
            files=SqlFileRepository(database),
            quotas=quotas,
            keeper=keeper,
            admission=Admission(
                keeper,
                WindowTokenLimiter(settings.token_limit, settings.tenant_token_limit, storage.windows, fallback),
                await _concurrency(stack, settings, storage, fallback),
            ),
            prices=PriceTable({name: Price(**price.model_dump()) for name, price in settings.prices.items()}),
            run_reserve_tokens=settings.run_reserve_tokens,
            background=background,
            record=functools.partial(record_request, recorder),
            signer=signer,
            tokens=tokens,
            limiter=ObservedLimiter(
                WindowRateLimiter(settings.rate_limit, settings.tenant_rate_limit, storage.windows, fallback)
            ),
            readiness=ReadinessMonitor(_probes(database, channels, storage, settings)),
            agents=agents,
            workflows=workflows,
            memory=ScreenedMemoryBackend(channels["agent"], screening),
            examples=GrpcExampleBackend(channels["agent"]),
            privacy=privacy,
            schedules=ScreenedScheduleBackend(channels["agent"], screening),
            prompts=GrpcPromptBackend(channels["agent"]),
            webhooks=GrpcWebhookBackend(channels["agent"]),
            documents=documents,
            tools=tools,
            models=ObservedModels(GrpcModelBackend(channels["inference"])),
            trusted_proxies=tuple(str(network) for network in settings.trusted_proxies),
            max_upload_bytes=settings.upload_mebibytes * 1024 * 1024,
            public_url=settings.public_url or "",
            require_if_match=settings.require_if_match,
            heartbeat_seconds=settings.heartbeat_seconds,
        )


async def _concurrency(
    stack: contextlib.AsyncExitStack, settings: GatewaySettings, storage: LimitStorage, fallback: Fallback
) -> ConcurrencyLimiter:
    limits = ConcurrencyLimits(settings.max_running_per_key, settings.max_running_per_tenant)
    if storage.pool is None:
        return LocalConcurrencyLimiter(limits)
    shared = ValkeyConcurrencyLimiter(storage.pool, limits, fallback)
    await stack.enter_async_context(shared.keeping())
    return shared


def _quota_failure(error: Exception) -> None:
    QUOTA_FAILURES.inc()
    _log.error("quota_spending_not_booked", error=type(error).__name__)


def _deletion_failure(service: str, error: Exception) -> None:
    DELETION_FAILURES.labels(service).inc()
    _log.error("tenant_deletion_held_up", service=service, error=type(error).__name__)


@contextlib.asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def _keeping(keeper: QuotaKeeper, drain_seconds: float) -> AsyncIterator[None]:
    try:
        async with _running(keeper.run()):
            yield
    finally:
        await keeper.close(seconds=max(1.0, drain_seconds))


def read_pepper(settings: GatewaySettings) -> Pepper:
    """The pepper that is set, or the one kept in the data folder."""
    if settings.key_pepper is not None:
        return Pepper(settings.key_pepper.get_secret_value())
    path = settings.data_dir / "gateway-pepper"
    return Pepper(read_or_make(path, lambda: secrets.token_hex(32).encode()).decode())


def read_signer(settings: GatewaySettings) -> TokenSigner:
    """The signing key that is set, or the one kept in the data folder."""
    if settings.signing_key_file is None:
        pem = read_or_make(settings.data_dir / "gateway-signing-key.pem", generate_signing_key)
    else:
        pem = settings.signing_key_file.read_bytes()
    return TokenSigner.from_pem(pem, issuer="errand-gateway")


async def _masker(settings: GatewaySettings) -> Masker:
    if settings.personal_data is PersonalDataPolicy.OFF or settings.personal_data_finder == "forms":
        return FormMasker()
    # Loaded here alone: it is an extra, and takes seconds and hundreds of megabytes.
    from errand_gateway.clients.presidio import PresidioMasker  # noqa: PLC0415

    return await asyncio.to_thread(
        PresidioMasker,
        settings.presidio_model,
        language=settings.presidio_language,
        entities=settings.presidio_entities,
    )


def _responses(screening: Screening, database: Database) -> ResponseStore:
    responses = SqlResponseRepository(database)
    return responses if screening.policy is PersonalDataPolicy.OFF else MaskedResponses(responses, screening)


def _issuers(settings: GatewaySettings) -> list[Issuer]:
    return [_issuer(each, each.audience, KeySet(each.jwks)) for each in settings.external_issuers]


def _issuer(setting: IssuerSetting | LoginProviderSetting, audience: str, keys: KeySet) -> Issuer:
    return Issuer(
        name=setting.name,
        issuer=setting.issuer,
        keys=keys,
        audience=audience,
        algorithms=tuple(setting.algorithms),
        tenant_id=setting.tenant_id,
        tenant_claim=setting.tenant_claim,
        roles_claim=setting.roles_claim,
        role_map={name: role.value for name, role in setting.role_map.items()},
        default_roles=frozenset(role.value for role in setting.default_roles),
    )


def _provider(setting: LoginProviderSetting, settings: GatewaySettings) -> OidcProvider:
    secret = settings.login_client_secrets.get(setting.name)
    return OidcProvider(
        setting.name,
        setting.issuer,
        client_id=setting.client_id,
        client_secret=secret.get_secret_value() if secret else None,
        scope=setting.scope,
        redirect_uri=f"{settings.public_url}{oidc.PREFIX}/{setting.name}/callback",
        issuer=functools.partial(_issuer, setting, setting.client_id),
    )


async def _open_channels(stack: contextlib.AsyncExitStack, settings: GatewaySettings) -> dict[str, grpc.aio.Channel]:
    targets = {
        "agent": settings.agent_target,
        "inference": settings.inference_target,
        "rag": settings.rag_target,
        "tools": settings.tools_target,
    }
    return {
        name: await stack.enter_async_context(create_channel(target, guarding(Circuit(name))))
        for name, target in targets.items()
    }


def _probes(
    database: Database, channels: dict[str, grpc.aio.Channel], storage: LimitStorage, settings: GatewaySettings
) -> list[Probe]:
    async def database_answers() -> bool:
        await database.ping()
        return True

    services = [Probe(name, GrpcHealthProbe(channel)) for name, channel in channels.items()]
    # Where each gateway counts alone while it is away, work goes on without it.
    cache = Probe("cache", storage.answers, needed=settings.rate_limit_on_failure == "refuse")
    return [Probe("database", database_answers), *([cache] if storage.pool else []), *services]


@contextlib.asynccontextmanager
async def _recording(recorder: Recorder, store: SqlRecordRepository, settings: GatewaySettings) -> AsyncIterator[None]:
    journal = FileJournal(settings.data_dir / "records")
    if recovered := await recorder.recover(store, journal):
        RECORDS_RECOVERED.inc(recovered)
        _log.warning("records_recovered", requests=recovered)
    task = asyncio.create_task(recorder.run(store))
    try:
        yield
    finally:
        # Closed before it is cancelled: a batch cut off half way would have to be recovered.
        await recorder.close(store, seconds=max(1.0, settings.drain_seconds))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        journal.close()
