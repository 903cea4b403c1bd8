"""What is written down of requests: usage rows and the hash-chained audit log."""

import asyncio
import contextlib
import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


Record = tuple[AuditEvent, UsageRecord | None]
"""What is written down of one request."""


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

    async def add_missing(self, tenant_id: str, usage: Sequence[UsageRecord], audit: Sequence[AuditEvent]) -> int:
        """Stores those that are not there yet in one transaction; how many requests that were."""
        ...


class RecordJournal(Protocol):
    """Keeps records that are not stored yet, beyond the end of this process."""

    def append(self, record: Record) -> None:
        """Keeps a record until its segment is dropped."""
        ...

    def seal(self) -> None:
        """Ends the segment; what follows belongs to the next one."""
        ...

    def drop_sealed(self) -> None:
        """Forgets all sealed segments."""
        ...

    def left_behind(self) -> Iterator[list[Record]]:
        """Records of processes that died; those of a turn are forgotten when the next is asked for."""
        ...


class Recorder:
    """Collects records in memory and in a journal, and writes them in batches.

    At most `capacity` records wait; what comes then is dropped and told to `on_dropped`, since a
    request must not wait for its own record. A batch that fails waits and is tried again; what is not
    written when the process ends, however it does, is written by the next one.
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
        self._journal: RecordJournal | None = None
        self._waiting: deque[Record] = deque()
        self._due: deque[Record] = deque()
        self._writing = asyncio.Lock()

    def record(self, audit: AuditEvent, usage: UsageRecord | None) -> None:
        """Takes the records of one request."""
        if len(self._waiting) + len(self._due) >= self._capacity:
            self._on_dropped(1)
            return
        self._waiting.append((audit, usage))
        if self._journal is not None:
            self._keep(self._journal, (audit, usage))

    def _keep(self, journal: RecordJournal, record: Record) -> None:
        try:
            journal.append(record)
        except OSError as error:
            # A full disk must not stop requests: their records are in memory still.
            self._on_failure(error)

    async def recover(self, store: RecordStore, journal: RecordJournal) -> int:
        """Writes what dead processes left in the journal, which from now on keeps ours; how many requests."""
        self._journal = journal
        recovered = 0
        for records in journal.left_behind():
            for tenant_id, usage, audit in _by_tenant(records):
                recovered += await store.add_missing(tenant_id, usage, audit)
        return recovered

    async def run(self, store: RecordStore) -> None:
        """Writes what waits, again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(self._flush_seconds)
            await self.flush(store)

    async def flush(self, store: RecordStore) -> None:
        """Writes all that waits now; what cannot be written stays."""
        async with self._writing:
            if not self._waiting:
                return
            if self._journal is not None:
                self._journal.seal()
            self._due, self._waiting = self._waiting, self._due
            while self._due:
                taken = [self._due.popleft() for _ in range(min(self._batch, len(self._due)))]
                if left := await self._write(store, taken):
                    self._waiting = deque([*left, *self._due, *self._waiting])
                    self._due.clear()
                    return
            if self._journal is not None:
                self._journal.drop_sealed()

    async def close(self, store: RecordStore, *, seconds: float) -> None:
        """Writes the rest, within `seconds`; the journal keeps what cannot be written."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.flush(store)
        left = len(self._waiting) + len(self._due)
        if left and self._journal is None:
            self._on_dropped(left)

    async def _write(self, store: RecordStore, taken: Sequence[Record]) -> list[Record]:
        left: list[Record] = []
        for tenant_id, usage, audit in _by_tenant(taken):
            try:
                await store.add(tenant_id, usage, audit, {event.principal_id: event.at for event in audit})
            except Exception as error:
                self._on_failure(error)
                left.extend(record for record in taken if record[0].tenant_id == tenant_id)
        return left


def _by_tenant(records: Iterable[Record]) -> list[tuple[str, list[UsageRecord], list[AuditEvent]]]:
    by_tenant: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_tenant[record[0].tenant_id].append(record)
    return [
        (tenant_id, [usage for _, usage in rows if usage is not None], [event for event, _ in rows])
        for tenant_id, rows in by_tenant.items()
    ]
