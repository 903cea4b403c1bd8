"""Trying again while the other side is away, busy or late."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from errand_common.errors import DeadlineExceeded, Overloaded, Unavailable

from errand_agent.domain.ports import Journal

RETRYABLE = (Unavailable, Overloaded, DeadlineExceeded)
_PAUSES = (1.0, 2.0, 4.0)
Result = TypeVar("Result")


async def retried(attempt: Callable[[int], Awaitable[Result]], journal: Journal, deadline: float) -> Result:
    """What an attempt gives; each is told its number, from 0. Raises what the last one raised."""
    for number, pause in enumerate((*_PAUSES, None)):
        try:
            return await attempt(number)
        except RETRYABLE:
            if pause is None or time.time() + pause > deadline or await journal.is_cancelled():
                raise
            await asyncio.sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311 - jitter
    raise AssertionError("the last attempt returns or raises")
