"""What is written down of requests: usage rows and the hash-chained audit log."""

import asyncio
import contextlib
import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Protocol

from errand_gateway.domain.resources import Page, PageQuery

FIRST_HASH: Final = "0" * 64
REPORT_ROWS: Final = 10_000


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """What one request used."""

    id: str
    tenant_id: str
    key_id: str
    request_id: str
    action: str
    agent: str
    model: str
    run_id: str
    status: int
    stop_reason: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    duration_ms: float
    created_at: datetime
    project: str = ""
    cost_micros: int = 0


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One authenticated request."""

    tenant_id: str
    at: datetime
    principal_id: str
    action: str
    method: str
    path: str
    status: int
    request_id: str


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An event in its tenant's chain: each hash covers the event and the hash before."""

    sequence: int
    event: AuditEvent
    previous_hash: str
    hash: str


@dataclass(frozen=True, slots=True)
class ChainCheck:
    """What verifying a chain found; `broken_at` is the first entry that does not fit."""

    intact: bool
    entries: int
    broken_at: int | None


def entry_hash(sequence: int, event: AuditEvent, previous_hash: str) -> str:
    """SHA-256 over the event's canonical JSON and the hash before, hex."""
    content = [
        sequence,
        event.tenant_id,
        event.at.astimezone(UTC).isoformat(timespec="microseconds"),
        event.principal_id,
        event.action,
        event.method,
        event.path,
        event.status,
        event.request_id,
        previous_hash,
    ]
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def chain(events: Sequence[AuditEvent], *, last_sequence: int, last_hash: str) -> list[AuditEntry]:
    """The entries that continue a chain."""
    entries = []
    for sequence, event in enumerate(events, last_sequence + 1):
        digest = entry_hash(sequence, event, last_hash)
        entries.append(AuditEntry(sequence, event, last_hash, digest))
        last_hash = digest
    return entries


class ChainVerifier:
    """Follows a chain from its beginning, batch by batch."""

    def __init__(self) -> None:
        self._sequence = 0
        self._hash = FIRST_HASH
        self._broken_at: int | None = None

    def follow(self, entries: Sequence[AuditEntry]) -> None:
        """Checks the next entries, in order."""
        for entry in entries:
            if self._broken_at is None and not self._fits(entry):
                self._broken_at = self._sequence + 1
            self._sequence += 1
            self._hash = entry.hash

    def _fits(self, entry: AuditEntry) -> bool:
        return (
            entry.sequence == self._sequence + 1
            and entry.previous_hash == self._hash
            and entry.hash == entry_hash(entry.sequence, entry.event, entry.previous_hash)
        )

    def result(self) -> ChainCheck:
        """What was found so far."""
        return ChainCheck(self._broken_at is None, self._sequence, self._broken_at)


class UsageGroup(StrEnum):
    """What a usage report adds up by."""

    PROJECT = "project"
    AGENT = "agent"
    MODEL = "model"
    KEY = "key"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class UsageTotals:
    """What the requests of one group used; `group` has a value for each name that was asked for."""

    group: Mapping[str, str]
    requests: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost_micros: int
    average_ms: float


class RecordReader(Protocol):
    """Where records are read."""

    async def report_usage(
        self, tenant_id: str, by: Sequence[UsageGroup], *, since: datetime, until: datetime
    ) -> Sequence[UsageTotals]:
        """Totals of the tenant's usage, the dearest groups first, at most REPORT_ROWS."""
        ...

    async def list_usage(
        self,
        tenant_id: str,
        page: PageQuery,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Page[UsageRecord]:
        """The tenant's usage rows, newest first."""
        ...

    async def list_audit(self, tenant_id: str, page: PageQuery) -> Page[AuditEntry]:
        """The tenant's audit entries, newest first."""
        ...

    async def verify_audit(self, tenant_id: str) -> ChainCheck:
        """Recomputes the tenant's whole chain."""
        ...


class RecordStore(Protocol):
    """Where records are written."""

    async def add(
        self,
        tenant_id: str,
        usage: Sequence[UsageRecord],
        audit: Sequence[AuditEvent],
        used_at: Mapping[str, datetime],
    ) -> None:
        """Stores a tenant's records in one transaction."""
        ...


class Recorder:
    """Collects records in memory and writes them in batches.

    At most `capacity` records wait; what comes then is dropped and told to `on_dropped`, since a
    request must not wait for its own record. A batch that fails waits and is tried again.
    """

    def __init__(
        self,
        *,
        flush_seconds: float,
        capacity: int = 50_000,
        batch: int = 1_000,
        on_dropped: Callable[[int], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._flush_seconds = flush_seconds
        self._capacity = capacity
        self._batch = batch
        self._on_dropped = on_dropped
        self._on_failure = on_failure
        self._waiting: deque[tuple[AuditEvent, UsageRecord | None]] = deque()
        self._writing = asyncio.Lock()

    def record(self, audit: AuditEvent, usage: UsageRecord | None) -> None:
        """Takes the records of one request."""
        if len(self._waiting) >= self._capacity:
            self._on_dropped(1)
            return
        self._waiting.append((audit, usage))

    async def run(self, store: RecordStore) -> None:
        """Writes what waits, again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(self._flush_seconds)
            await self.flush(store)

    async def flush(self, store: RecordStore) -> None:
        """Writes all that waits now; what cannot be written stays."""
        async with self._writing:
            while self._waiting:
                taken = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
                left = await self._write(store, taken)
                if left:
                    self._waiting.extendleft(reversed(left))
                    return

    async def close(self, store: RecordStore, *, seconds: float) -> None:
        """Writes the rest, within `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.flush(store)
        if self._waiting:
            self._on_dropped(len(self._waiting))

    async def _write(
        self, store: RecordStore, taken: Sequence[tuple[AuditEvent, UsageRecord | None]]
    ) -> list[tuple[AuditEvent, UsageRecord | None]]:
        by_tenant: dict[str, list[tuple[AuditEvent, UsageRecord | None]]] = defaultdict(list)
        for record in taken:
            by_tenant[record[0].tenant_id].append(record)
        left: list[tuple[AuditEvent, UsageRecord | None]] = []
        for tenant_id, records in by_tenant.items():
            try:
                await store.add(
                    tenant_id,
                    [usage for _, usage in records if usage is not None],
                    [event for event, _ in records],
                    {event.principal_id: event.at for event, _ in records},
                )
            except Exception as error:
                self._on_failure(error)
                left.extend(records)
        return left
