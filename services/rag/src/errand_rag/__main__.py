"""python -m errand_rag serve | migrate | check-config"""

import sys

from errand_common.main import run_service, wait_for_shutdown
from errand_common.telemetry import configure_logging
from errand_common.telemetry.metrics import serve_metrics

from errand_rag import app
from errand_rag.settings import RagSettings


async def serve(settings: RagSettings) -> None:
    """Runs until SIGTERM or SIGINT."""
    configure_logging("rag", settings.log_level, settings.log_format)
    serve_metrics(settings.metrics_port, settings.host)
    if settings.is_embedded:
        app.migrate(settings)
    async with app.resources(settings) as parts, app.running(settings, parts):
        await wait_for_shutdown()


if __name__ == "__main__":
    sys.exit(run_service("errand_rag", RagSettings, serve, app.migrate))
