"""What a call carries on to the calls it makes: token, request id, deadline."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

AUTHORIZATION = "authorization"
REQUEST_ID = "x-request-id"
ERROR_DOMAIN = "errand"
MAX_MESSAGE_BYTES = 16 * 1024 * 1024

_token: ContextVar[str | None] = ContextVar("errand_token", default=None)
_ends_at: ContextVar[float | None] = ContextVar("errand_deadline", default=None)


def current_token() -> str | None:
    """The internal token of the call or task that runs."""
    return _token.get()


@contextmanager
def carrying_token(token: str | None) -> Iterator[None]:
    """Calls made inside the block carry this token."""
    reset = _token.set(token)
    try:
        yield
    finally:
        _token.reset(reset)


def enter_call(token: str, *, seconds: float) -> None:
    """For the rest of the running task: calls made carry this token and end within so many seconds."""
    _token.set(token)
    _ends_at.set(time.monotonic() + seconds)


@contextmanager
def ending_within(seconds: float | None) -> Iterator[None]:
    """Calls made inside the block end within so many seconds; never later than an outer block says."""
    outer = _ends_at.get()
    inner = None if seconds is None else time.monotonic() + seconds
    bounds = [moment for moment in (outer, inner) if moment is not None]
    reset = _ends_at.set(min(bounds) if bounds else None)
    try:
        yield
    finally:
        _ends_at.reset(reset)


def deadline_seconds(default: float) -> float:
    """Seconds an outgoing call may take: `default`, or what is left of the current call if less."""
    ends_at = _ends_at.get()
    return default if ends_at is None else max(0.001, min(default, ends_at - time.monotonic()))
