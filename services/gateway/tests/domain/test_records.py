"""The recorder and the audit chain."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from errand_gateway.domain.records import (
    FIRST_HASH,
    AuditEvent,
    ChainVerifier,
    Recorder,
    UsageRecord,
    chain,
)

EVENT = AuditEvent("one", datetime(2026, 1, 1, tzinfo=UTC), "key", "runs:read", "GET", "/a", 200, "req")


class FlakyStore:
    """Fails as often as it is told."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.written: list[AuditEvent] = []

    async def add(
        self,
        tenant_id: str,
        usage: Sequence[UsageRecord],
        audit: Sequence[AuditEvent],
        used_at: Mapping[str, datetime],
    ) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError
        self.written.extend(audit)


def recorder(dropped: list[int], **options: int) -> Recorder:
    return Recorder(flush_seconds=60, on_dropped=dropped.append, on_failure=lambda _: None, **options)


async def test_failed_batch_is_written_later_in_order() -> None:
    dropped: list[int] = []
    store, waiting = FlakyStore(failures=1), recorder(dropped, batch=2)
    events = [replace(EVENT, path=f"/{number}") for number in range(5)]
    for event in events:
        waiting.record(event, None)
    await waiting.flush(store)
    assert store.written == []
    await waiting.close(store, seconds=1)
    assert store.written == events
    assert dropped == []


async def test_full_buffer_drops_and_counts() -> None:
    dropped: list[int] = []
    waiting = recorder(dropped, capacity=2)
    for _ in range(5):
        waiting.record(EVENT, None)
    await waiting.close(FlakyStore(failures=9), seconds=1)
    assert dropped == [1, 1, 1, 2]


def test_chain_shows_changed_removed_and_moved_entries() -> None:
    entries = chain([replace(EVENT, path=f"/{n}") for n in range(4)], last_sequence=0, last_hash=FIRST_HASH)
    damaged = {
        "intact": (entries, None),
        "changed": ([entries[0], replace(entries[1], event=EVENT), *entries[2:]], 2),
        "removed": ([entries[0], *entries[2:]], 2),
        "moved": ([entries[1], entries[0], *entries[2:]], 1),
    }
    for name, (found, broken_at) in damaged.items():
        verifier = ChainVerifier()
        verifier.follow(found)
        assert verifier.result().broken_at == broken_at, name
