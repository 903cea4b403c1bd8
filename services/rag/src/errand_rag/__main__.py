"""python -m errand_rag serve | migrate | check-config"""

import asyncio
import sys

import structlog
from errand_common.main import run_service, wait_for_shutdown
from errand_common.telemetry import shutdown_tracing

from errand_rag import app
from errand_rag.settings import RagSettings
from errand_rag.telemetry import configure

_log = structlog.get_logger(__name__)


async def serve(settings: RagSettings) -> None:
    """Runs until SIGTERM or SIGINT, then lets running calls end and gives its jobs back."""
    configure(settings)
    if settings.is_embedded:
        await asyncio.to_thread(app.migrate, settings)
    async with app.resources(settings) as parts, app.running(settings, parts) as port:
        _log.info("serving", port=port)
        await wait_for_shutdown()
    shutdown_tracing()


if __name__ == "__main__":
    sys.exit(run_service("errand_rag", RagSettings, serve, app.migrate))
