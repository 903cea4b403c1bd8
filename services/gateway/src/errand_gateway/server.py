"""Serves the app with uvicorn until the process is asked to end, then drains."""

import asyncio
import contextlib
import gc
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog
import uvicorn
from errand_common.main import wait_for_shutdown
from errand_common.telemetry import configure_logging, configure_tracing, shutdown_tracing
from errand_common.telemetry.metrics import serve_metrics
from fastapi import FastAPI
from sse_starlette.sse import AppStatus

from errand_gateway.app import SERVICE, build_app, migrate_database
from errand_gateway.settings import GatewaySettings
from errand_gateway.transport.protocol import BoundedHttpProtocol

_log = structlog.get_logger(__name__)
_PONG_SECONDS: Final = 20.0
_FAREWELL_SECONDS: Final = 3.0
_LOOK_SECONDS: Final = 0.05
_COLLECTED_AFTER: Final = (20_000, 20, 20)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: readiness goes off before connections do."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts; what was loaded until then is never collected, so the collector need not look at it.

        A full collection over all modules' objects would halt every request for some 150 ms. What requests make is
        nearly all freed without the collector: it looks at it more rarely than it would by itself.
        """
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECTED_AFTER)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ours."""
        yield


async def serve(settings: GatewaySettings) -> None:
    """Runs the gateway; raises SystemExit when it cannot start."""
    configure_logging(SERVICE, settings.log_level, settings.log_format)
    configure_tracing(SERVICE, settings)
    serve_metrics(settings.metrics_port, settings.host)
    if settings.is_embedded:
        await asyncio.to_thread(migrate_database, settings)
    app = build_app(settings)
    server = make_server(app, settings)
    serving = asyncio.create_task(server.serve())
    asked = asyncio.create_task(wait_for_shutdown())
    renewing = asyncio.create_task(_renew_certificate(server.config, settings))
    try:
        await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            _log.info("draining", seconds=settings.drain_seconds)
            app.state.services.readiness.draining = True
            await _see_off(server, min(_FAREWELL_SECONDS, settings.drain_seconds / 5))
            server.should_exit = True
        await serving
    finally:
        asked.cancel()
        renewing.cancel()
        shutdown_tracing()
    if not server.started:
        raise SystemExit(1)


async def _see_off(server: uvicorn.Server, seconds: float) -> None:
    """Gives clients time to ask once more and be told with the answer that their connection ends."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while server.server_state.connections and loop.time() < until:  # noqa: ASYNC110 - uvicorn tells nobody
        await asyncio.sleep(_LOOK_SECONDS)


async def _renew_certificate(config: uvicorn.Config, settings: GatewaySettings) -> None:
    """Takes up a certificate that was renewed in its file; connections that are open keep the old one."""
    certificate, key = settings.tls_certificate_file, settings.tls_key_file
    if certificate is None or key is None:
        return
    seen = await asyncio.to_thread(_changed_at, certificate, key)
    while True:
        await asyncio.sleep(settings.tls_renew_seconds)
        found = await asyncio.to_thread(_changed_at, certificate, key)
        if found != seen and config.ssl is not None:
            try:
                config.ssl.load_cert_chain(certificate, key)
            except (OSError, ssl.SSLError) as error:
                # Its key may follow in a moment; until then the old pair serves on.
                _log.warning("certificate_not_renewed", error=type(error).__name__)
            else:
                seen = found
                _log.info("certificate_renewed")


def _changed_at(*files: Path) -> tuple[float, ...]:
    return tuple(file.stat().st_mtime if file.exists() else 0.0 for file in files)


def make_server(app: FastAPI, settings: GatewaySettings) -> uvicorn.Server:
    """A server of the app that is ended by its `should_exit`."""
    # Streams are not cut at the first sign of shutdown: they have drain_seconds to finish.
    AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]
    return _Server(_uvicorn_config(app, settings))


def _uvicorn_config(app: FastAPI, settings: GatewaySettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="none",
        http=BoundedHttpProtocol,
        ws="websockets-sansio",
        ws_max_size=settings.json_body_mebibytes * 1024 * 1024,
        ws_max_queue=4,
        ws_ping_interval=settings.heartbeat_seconds,
        ws_ping_timeout=_PONG_SECONDS,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=2048,
        timeout_keep_alive=30,
        ssl_certfile=settings.tls_certificate_file,
        ssl_keyfile=settings.tls_key_file,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
    )
