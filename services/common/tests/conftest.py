"""Fixtures of the shared library's own tests."""

import logging
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Undoes `configure_logging` after the test."""
    root = logging.getLogger()
    handlers = root.handlers
    loggers = [root, *(logging.getLogger(name) for name in ("errand_common", "errand_agent"))]
    levels = [logger.level for logger in loggers]
    yield
    root.handlers = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    structlog.reset_defaults()
