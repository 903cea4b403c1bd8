"""The durable journal of a run: DBOS remembers steps, the run's event log tells them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from dbos import DBOS
from errand_common.db import Database

from errand_agent.domain.ports import RunCancelled
from errand_agent.domain.runs import EventKind, Step
from errand_agent.storage.models import RunRow
from errand_agent.storage.runs import RunRepository

# Pieces of an answer that come within this time become one event.
_COALESCE_SECONDS = 0.04
_CANCELLED = {"cancelled": True}


class Bell:
    """Wakes those who watch a run, and carries the wish to cancel it."""

    def __init__(self) -> None:
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._cancelled: dict[str, asyncio.Event] = {}

    def ring(self, run_id: str) -> None:
        """Wakes the run's watchers."""
        for watcher in self._watchers.get(run_id, ()):
            watcher.set()

    def watch(self, run_id: str) -> asyncio.Event:
        """An event that is set when the run has news."""
        watcher = asyncio.Event()
        self._watchers.setdefault(run_id, set()).add(watcher)
        return watcher

    def unwatch(self, run_id: str, watcher: asyncio.Event) -> None:
        """Ends a watch."""
        watchers = self._watchers.get(run_id, set())
        watchers.discard(watcher)
        if not watchers:
            self._watchers.pop(run_id, None)

    def cancellation(self, run_id: str) -> asyncio.Event:
        """Set when the run shall end."""
        return self._cancelled.setdefault(run_id, asyncio.Event())

    def forget(self, run_id: str) -> None:
        """The run has ended."""
        self._cancelled.pop(run_id, None)


class DbosJournal:
    """One run's journal."""

    def __init__(self, database: Database, bell: Bell, tenant_id: str, run_id: str) -> None:
        self._database, self._bell = database, bell
        self._tenant_id, self._run_id = tenant_id, run_id
        self._told_before: dict[str, bool] = {}
        self._pieces: list[str] = []
        self._piece_key = ""
        self._flushed_at = 0.0
        self._flushes = 0

    async def once(self, name: str, work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """A DBOS step: done once, remembered, cancelled with the run."""

        async def step() -> dict[str, Any]:
            return await self._cancellable(work)

        result: dict[str, Any] = await DBOS.run_step_async({"name": name}, step)
        if result == _CANCELLED:
            raise RunCancelled
        return result

    async def _cancellable(self, work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        cancelled = asyncio.ensure_future(self._bell.cancellation(self._run_id).wait())
        working = asyncio.ensure_future(work())
        try:
            await asyncio.wait({working, cancelled}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                return dict(_CANCELLED)
            result = working.result()
            await self._flush()
            return result
        finally:
            cancelled.cancel()
            if not working.done():
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)

    async def record(self, key: str, steps: Sequence[Step]) -> None:
        """Steps as events."""
        await self._append(key, [(EventKind.STEP, step.to_json()) for step in steps])

    async def _append(self, key: str, events: Sequence[tuple[EventKind, dict[str, Any]]]) -> None:
        await self._flush()
        async with self._database.transaction(self._tenant_id) as session:
            row = await session.get(RunRow, self._run_id, with_for_update=True)
            if row is not None:
                await RunRepository(session).append(row, key, events)
        self._bell.ring(self._run_id)

    async def tell(self, key: str, text: str) -> None:
        """A piece of the answer; an answer that an earlier attempt began is not told again."""
        if key not in self._told_before:
            async with self._database.transaction(self._tenant_id) as session:
                self._told_before[key] = await RunRepository(session).has_key(self._run_id, f"{key}.delta")
        if self._told_before[key] or not text:
            return
        self._piece_key = key
        self._pieces.append(text)
        if time.monotonic() - self._flushed_at >= _COALESCE_SECONDS:
            await self._flush()

    async def _flush(self) -> None:
        if not self._pieces:
            return
        text, self._pieces = "".join(self._pieces), []
        self._flushed_at, self._flushes = time.monotonic(), self._flushes + 1
        await self._append(f"{self._piece_key}.delta.{self._flushes}", [(EventKind.DELTA, {"text": text})])

    async def is_cancelled(self) -> bool:
        """By this process's bell, or by the row when another one was asked."""
        if self._bell.cancellation(self._run_id).is_set():
            return True
        return await self._requested()

    async def _requested(self) -> bool:
        async with self._database.transaction(self._tenant_id) as session:
            row = await session.get(RunRow, self._run_id)
            return row is None or row.cancel_requested
