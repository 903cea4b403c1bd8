"""The command line that every service has: serve, migrate, check-config."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from errand_common.errors import ErrandError
from errand_common.rpc.tls import configure_tls
from errand_common.settings import ServiceSettings, SettingsError, describe, load_settings
from errand_common.telemetry import configure_logging
from errand_common.telemetry.logs import switch_debug

Settings = TypeVar("Settings", bound=ServiceSettings)
CRASHED_STATUS = 1
BAD_SETTINGS_STATUS = 2
_log = structlog.get_logger(__name__)


def run_service(
    service_name: str,
    settings_class: type[Settings],
    serve: Callable[[Settings], Awaitable[None]],
    migrate: Callable[[Settings], None] | None = None,
) -> int:
    """Runs the command named on the command line and returns the exit status.

    0 when it ended well, 1 when it ended by an error (which is logged), 2 when a setting is wrong.
    """
    commands = ["serve", "check-config", *(["migrate"] if migrate else [])]
    parser = argparse.ArgumentParser(prog=f"python -m {service_name}")
    parser.add_argument("command", choices=commands)
    command = parser.parse_args().command
    try:
        settings = load_settings(settings_class)
        configure_tls(settings.tls_dir)
    except SettingsError as error:
        sys.stderr.write(f"{service_name}: {error}\n")
        return BAD_SETTINGS_STATUS
    if command == "check-config":
        sys.stdout.write(describe(settings) + "\n")
        return 0
    # From here on everything this process says is a log line: warnings and crashes too.
    service = service_name.removeprefix("errand_")
    configure_logging(service, settings.log_level, settings.log_format)
    logging.captureWarnings(capture=True)
    try:
        if command == "migrate" and migrate is not None:
            migrate(settings)
        else:
            asyncio.run(_serve(service, serve, settings))
    except ErrandError as error:
        # It says itself what is wrong: a model that is not there, a database that does not answer.
        _log.critical("the service cannot run", command=command, reason=error.message)
        return CRASHED_STATUS
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "")[:300]
        _log.critical(
            "the service ended by an error", command=command, reason=f"{type(error).__name__}: {reason}", exc_info=error
        )
        return CRASHED_STATUS
    return 0


async def _serve(service: str, serve: Callable[[Settings], Awaitable[None]], settings: Settings) -> None:
    """Serves; SIGUSR1 turns debug lines on, and off again."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, switch_debug, service, settings.log_level)
    await serve(settings)


async def wait_for_shutdown() -> None:
    """Returns when the process is asked to end by SIGTERM or SIGINT."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    try:
        await asked.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
