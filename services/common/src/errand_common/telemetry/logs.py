"""Structured logs: one JSON object a line, with who and where, without secrets."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from opentelemetry import trace
from structlog.typing import EventDict

from errand_common.redaction import redacted

# These tell every request at INFO, headers and query included.
_NOISY = ("httpx", "httpcore", "uvicorn.access", "alembic")
_COMMON = "errand_common"


def configure_logging(service: str, level: str = "info", output_format: str = "json") -> None:
    """Sends structlog's and the standard library's records to stdout as `output_format`.

    May be called again; the last call counts.
    """
    context: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Constant(service),
        _add_trace,
    ]
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*context, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # A traceback is text from here on, so that secrets in it are found too.
                structlog.processors.format_exc_info,
                scrub,
                _renderer(output_format),
            ],
        )
    )
    logging.getLogger().handlers = [handler]
    _set_level(service, level)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        # The level is asked of the standard library at each line, so that it can change while the service runs.
        processors=[
            structlog.stdlib.filter_by_level,
            *context,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def switch_debug(service: str, configured_level: str) -> None:
    """Debug lines, or the configured level again if debug lines are on."""
    is_on = logging.getLogger(_COMMON).level == logging.DEBUG
    level = configured_level if is_on else "debug"
    _set_level(service, level)
    structlog.get_logger(__name__).warning("log level changed", level_now=level)


def _set_level(service: str, level: str) -> None:
    """Debug lines are our own alone: drivers tell there of each statement with people's words in it."""
    number = logging.getLevelNamesMapping()[level.upper()]
    for package in (_COMMON, f"errand_{service}"):
        logging.getLogger(package).setLevel(number)
    logging.getLogger().setLevel(max(number, logging.INFO))


def _renderer(output_format: str) -> Any:
    if output_format == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


class _Constant:
    """Adds the service's name to each record."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        event["service"] = self._service
        return event


def _add_trace(_logger: Any, _method: str, event: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
    return event


def scrub(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Masks values under secret names, and texts that look like keys or tokens."""
    return {key: redacted(key, value) for key, value in event.items()}
