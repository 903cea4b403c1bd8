"""Structured logs: one JSON object a line, with who and where, without secrets."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any

import structlog
from opentelemetry import trace
from structlog.typing import EventDict

_SECRET_KEYS = re.compile(
    r"authorization|api[-_]?key|password|passwd|secret|token$|pepper|credential|cookie",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"errand_[A-Za-z0-9]{4,}_[A-Za-z0-9_-]{16,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}|Bearer\s+\S+",
    re.IGNORECASE,
)
MASK = "***"


def configure_logging(service: str, level: str = "info", output_format: str = "json") -> None:
    """Sends structlog's and the standard library's records to stdout as `output_format`."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Constant(service),
        _add_trace,
    ]
    last: Any = structlog.processors.JSONRenderer() if output_format == "json" else structlog.dev.ConsoleRenderer()
    ending: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if output_format == "json":
        ending.append(structlog.processors.format_exc_info)
    formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*ending, scrub, last])
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # These tell every request at INFO, headers and query included.
    for noisy in ("httpx", "httpcore", "uvicorn.access", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            *shared[:2],
            *shared[3:],
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


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
    return {key: _scrubbed(key, value) for key, value in event.items()}


def _scrubbed(key: str, value: Any) -> Any:
    if isinstance(value, str):
        return MASK if _SECRET_KEYS.search(key) else _SECRET_TEXT.sub(MASK, value)
    if isinstance(value, Mapping):
        return {inner: _scrubbed(str(inner), item) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [_scrubbed(key, item) for item in value]
    return value
