"""Tells a run's events while the run goes on: nothing waits for them but its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from errand_common.db import Database
from errand_common.errors import Unavailable

from errand_agent.domain.runs import EventKind
from errand_agent.storage.runs import Event, Keyed, appending

# Pieces of an answer that come within this time become one event.
_COALESCE_SECONDS = 0.04
# Storing pieces must not slow what it tells of: after each time there is a rest so many times as long.
_FLUSH_REST = 4
_AWAY_SECONDS = 1.0


class Teller:
    """Writes one run's events in their order, those that wait in one transaction.

    An event follows from a step, and is told once that is remembered: nobody hears of what a crash may undo, and what
    a crash takes is told again by a replay. A key is told once.
    """

    def __init__(
        self, database: Database, tenant_id: str, run_id: str, *, ring: Callable[[str], None], cancelled: bool
    ) -> None:
        """`ring` is called with the run's id when events are stored; `cancelled` when the run shall end already."""
        self._database, self._ring = database, ring
        self._tenant_id, self._run_id = tenant_id, run_id
        self._waiting: list[tuple[Keyed, asyncio.Task[None] | None]] = []
        self._pieces: list[str] = []
        self._piece_key = ""
        self._flushes = 0
        self._rests_until = 0.0
        self._flushing: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._has_ended = False
        self.saw(cancelled=cancelled)

    def saw(self, *, cancelled: bool) -> None:
        """Notes whether the run shall end, as its row says now."""
        self.seen_at, self.seen_cancelled = time.monotonic(), cancelled

    @property
    def has_pieces(self) -> bool:
        """Whether pieces of an answer are not stored yet."""
        return bool(self._pieces) or any(events[0][0] is EventKind.DELTA for (_, events), _ in self._waiting)

    def put(self, key: str, events: Sequence[Event], after: asyncio.Task[None] | None) -> None:
        """Events to be told when this task is done, after those that were put before."""
        self._flush()
        self._put(key, events, after)

    def put_piece(self, key: str, text: str) -> None:
        """A piece of an answer; pieces that come one after another become one event."""
        if self._pieces and key != self._piece_key:
            self._flush()
        self._piece_key = key
        self._pieces.append(text)
        if self._flushing is None:
            loop = asyncio.get_running_loop()
            self._flushing = loop.call_later(max(0.0, self._rests_until - time.monotonic()), self._flush)

    async def told(self) -> None:
        """Returns when all is stored. Raises what kept it from that, other than that the database is away."""
        self._flush()
        if self._writing is not None:
            await asyncio.shield(self._writing)

    async def untold(self) -> Sequence[Keyed]:
        """What waits to be told, for somebody else to tell; what is being told is told. Raises as `told`."""
        self._flush()
        self._has_ended = True
        if self._writing is not None:
            await asyncio.shield(self._writing)
        return [keyed for keyed, _ in self._waiting]

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if not self._pieces:
            return
        text, self._pieces = "".join(self._pieces), []
        self._flushes += 1
        self._rests_until = time.monotonic() + _COALESCE_SECONDS
        self._put(f"{self._piece_key}.delta.{self._flushes}", [(EventKind.DELTA, {"text": text})])

    def _put(self, key: str, events: Sequence[Event], after: asyncio.Task[None] | None = None) -> None:
        self._waiting.append(((key, events), after))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while self._waiting and not self._has_ended:
            batch = list(self._waiting)
            await asyncio.gather(*(after for _, after in batch if after is not None))
            began = time.monotonic()
            try:
                await self._store([keyed for keyed, _ in batch])
            except Unavailable:
                # The run waits as well: no step is remembered meanwhile.
                await asyncio.sleep(_AWAY_SECONDS)
                continue
            del self._waiting[: len(batch)]
            took = time.monotonic() - began
            self._rests_until = max(self._rests_until, time.monotonic() + _FLUSH_REST * took)
            self._ring(self._run_id)

    async def _store(self, batch: Sequence[Keyed]) -> None:
        run, *_ = await self._database.run(self._tenant_id, *appending(self._tenant_id, self._run_id, *batch))
        self.saw(cancelled=not run or run[0][0])
