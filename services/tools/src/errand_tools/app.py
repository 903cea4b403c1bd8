"""The composition root: `build` makes the service's parts, `running` opens and closes them."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog
from errand.tools.v1 import tools_pb2_grpc
from errand_common import db
from errand_common.db import Database, new_id, utc_now
from errand_common.erasure import erase_tenant
from errand_common.errors import ErrandError
from errand_common.main import wait_for_shutdown
from errand_common.rpc.client import create_channel
from errand_common.rpc.server import Registration, RpcServer
from errand_common.telemetry import shutdown_tracing
from errand_common.tokens import TokenVerifier
from sqlalchemy.exc import SQLAlchemyError

from errand_tools.builtin import BUILTIN_TOOLS, Services
from errand_tools.builtin.convert_units import registry as load_units
from errand_tools.builtin.current_time import zones as load_zones
from errand_tools.clients.grpc import GuardedGrpcCaller
from errand_tools.clients.http import GuardedHttpCaller, GuardedWebFetcher
from errand_tools.clients.mcp import SdkMcpConnections
from errand_tools.clients.oauth import GuardedTokenSource
from errand_tools.clients.rag import RagKnowledgeBase
from errand_tools.domain.callers import GrpcTools, HttpTools, PythonTools, WasmTools
from errand_tools.domain.erasure import EraseRows, TenantErasure
from errand_tools.domain.execution import ToolExecutor
from errand_tools.domain.imports import OpenApiImporter
from errand_tools.domain.ledger import EffectLedger
from errand_tools.domain.limits import CircuitBreaker, ConcurrencyLimit, RateLimit
from errand_tools.domain.mcp import McpBook, McpConnections, McpServerStore
from errand_tools.domain.ports import EffectStore, GrpcCaller, HttpCaller, ToolStore, WasmEngine
from errand_tools.domain.registration import Registrar
from errand_tools.domain.registry import ToolRegistry
from errand_tools.domain.secrets import SecretBook, SecretStore
from errand_tools.domain.settlement import EffectBook
from errand_tools.domain.tokens import AccessTokens, TokenSource
from errand_tools.domain.tools import ToolKind
from errand_tools.domain.usage import UsageBook, UsageStore
from errand_tools.engines.sandbox import MontySandbox
from errand_tools.engines.wasm import WasmtimeEngine
from errand_tools.settings import ToolsSettings
from errand_tools.storage.effects import SqlEffectStore
from errand_tools.storage.mcp import SqlMcpServerStore
from errand_tools.storage.models import Base
from errand_tools.storage.secrets import SqlSecretStore
from errand_tools.storage.tools import SqlToolStore
from errand_tools.storage.usage import SqlUsageStore
from errand_tools.telemetry import ObservedExecutor, configure, watch_circuits
from errand_tools.transport.servicer import ToolsServicer

SERVICE = "tools"
_MIGRATIONS = "errand_tools.storage.migrations"
_WORKER_THREADS = 4
_USAGE_SECONDS = 5.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ToolsApp:
    """The service's parts that others call."""

    servicer: ToolsServicer
    ledger: EffectLedger
    usage: UsageBook

    @property
    def registration(self) -> Registration:
        """How a gRPC server takes it in."""
        return Registration(
            add=tools_pb2_grpc.add_ToolsServiceServicer_to_server,
            servicer=self.servicer,
            service_name="errand.tools.v1.ToolsService",
        )


@dataclass(frozen=True, slots=True)
class Stores:
    """Where things are kept."""

    tools: ToolStore
    effects: EffectStore
    secrets: SecretStore
    mcp: McpServerStore
    usage: UsageStore
    erase: EraseRows


@dataclass(frozen=True, slots=True)
class Remotes:
    """What reaches other machines."""

    http: HttpCaller
    mcp: McpConnections
    grpc: GrpcCaller
    tokens: TokenSource


def build(
    settings: ToolsSettings,
    services: Services,
    *,
    remotes: Remotes,
    wasm: WasmEngine,
    stores: Stores,
) -> ToolsApp:
    """Wires the domain over the given parts."""
    tokens = AccessTokens(remotes.tokens, time.monotonic)
    secrets = SecretBook(stores.secrets, settings.cipher, utc_now, tokens)
    registry = ToolRegistry(stores.tools, [builtin.as_tool() for builtin in BUILTIN_TOOLS], secrets)
    servers = McpBook(stores.mcp, registry, secrets, remotes.mcp)
    ledger = EffectLedger(
        stores.effects,
        owner=new_id("tools"),
        clock=utc_now,
        retention_days=settings.effect_retention_days,
    )
    breaker = CircuitBreaker(clock=time.monotonic)
    watch_circuits(lambda: breaker.open)
    usage = UsageBook(stores.usage, utc_now)
    executor = ToolExecutor(
        registry,
        {builtin.name: builtin.build(services) for builtin in BUILTIN_TOOLS},
        {
            ToolKind.HTTP: HttpTools(remotes.http, secrets),
            ToolKind.MCP: servers,
            ToolKind.GRPC: GrpcTools(remotes.grpc, secrets, registry),
            ToolKind.WASM: WasmTools(wasm, registry),
            ToolKind.PYTHON: PythonTools(services.sandbox),
        },
        ledger,
        usage=usage,
        limit=ConcurrencyLimit(running=settings.running_per_tool, waiting=settings.waiting_per_tool),
        rate=RateLimit(clock=time.monotonic),
        breaker=breaker,
        report=_report,
        personal_data=settings.personal_data,
    )
    builtin_names = frozenset(builtin.name for builtin in BUILTIN_TOOLS)
    servicer = ToolsServicer(
        registry,
        Registrar(registry, secrets, remotes.grpc, wasm, services.sandbox),
        ObservedExecutor(executor, builtin_names),
        EffectBook(stores.effects, utc_now),
        secrets,
        OpenApiImporter(registry),
        servers,
        usage,
        TenantErasure(stores.erase, usage),
    )
    return ToolsApp(servicer, ledger, usage)


@asynccontextmanager
async def running(settings: ToolsSettings) -> AsyncIterator[ToolsApp]:
    """The service over its database and network, closed at the end of the block."""
    async with AsyncExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(_WORKER_THREADS, "tool"))
        database = Database(settings.database(SERVICE), schema=SERVICE)
        stack.push_async_callback(database.close)
        await database.ping()
        channel = await stack.enter_async_context(create_channel(settings.rag_target))
        web = GuardedWebFetcher(settings.web_reach)
        stack.push_async_callback(web.close)
        http = GuardedHttpCaller(settings.tool_reach)
        stack.push_async_callback(http.close)
        mcp = SdkMcpConnections(settings.tool_reach, settings.stdio_commands)
        stack.push_async_callback(mcp.close)
        grpc = GuardedGrpcCaller(settings.tool_reach)
        stack.push_async_callback(grpc.close)
        tokens = GuardedTokenSource(settings.tool_reach)
        stack.push_async_callback(tokens.close)
        wasm = stack.enter_context(WasmtimeEngine())
        sandbox = await stack.enter_async_context(MontySandbox(processes=settings.sandbox_processes))
        _warm(threads)
        app = build(
            settings,
            Services(threads, RagKnowledgeBase(channel), web, sandbox),
            remotes=Remotes(http, mcp, grpc, tokens),
            wasm=wasm,
            stores=Stores(
                SqlToolStore(database),
                SqlEffectStore(database, exclusive=settings.is_embedded),
                SqlSecretStore(database),
                SqlMcpServerStore(database),
                SqlUsageStore(database),
                functools.partial(erase_tenant, database, Base.metadata),
            ),
        )
        writing = asyncio.create_task(_write_usage(app.usage))
        stack.push_async_callback(_ended, writing, app.usage)
        yield app


async def serve(settings: ToolsSettings) -> None:
    """Serves until the process is asked to end, then lets running calls finish."""
    configure(settings)
    if settings.is_embedded:
        await asyncio.to_thread(migrate, settings)
    verifier = TokenVerifier(settings.jwks)
    async with running(settings) as app:
        server = RpcServer(settings, verifier, [app.registration])
        port = await server.start()
        await server.set_serving(True)
        _log.info("serving", port=port)
        await wait_for_shutdown()
        until = time.monotonic() + settings.drain_seconds
        await server.stop(settings.drain_seconds)
        await app.ledger.drain(max(0.0, until - time.monotonic()))
    shutdown_tracing()


async def _write_usage(usage: UsageBook) -> None:
    """Stores now and then how calls ended."""
    while True:
        await asyncio.sleep(_USAGE_SECONDS)
        await _written(usage)


async def _ended(writing: asyncio.Task[None], usage: UsageBook) -> None:
    writing.cancel()
    await _written(usage)


async def _written(usage: UsageBook) -> None:
    try:
        await usage.write()
    except (ErrandError, SQLAlchemyError) as error:
        _log.warning("counts of calls are not stored yet", error=str(error))


def migrate(settings: ToolsSettings) -> None:
    """Brings the database to the newest schema."""
    db.migrate(settings.database(SERVICE), package=_MIGRATIONS, schema=SERVICE)


def _warm(threads: Executor) -> None:
    """Loads what takes long before somebody waits for it."""
    threads.submit(load_units)
    threads.submit(load_zones)


def _report(tool: str, error: BaseException) -> None:
    _log.error("tool raised", tool=tool, exc_info=error)
