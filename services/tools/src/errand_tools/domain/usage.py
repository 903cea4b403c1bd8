"""How calls of tools end: counted by tool, version and day, for the quality report."""

import math
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from errand_tools.domain.tools import ExecutionStatus, Outcome, Tool

RETENTION_DAYS = 90
DEFAULT_DAYS = 7
MAX_ROWS = 1_000
HASH_CHARACTERS = 12
# Buckets of durations: half a power of two apart, from 1 ms to beyond the longest time limit.
_STEPS_PER_DOUBLING = 2
_LAST_BUCKET = 38
_NOT_RUN = frozenset({ExecutionStatus.INVALID_ARGUMENTS, ExecutionStatus.DENIED, ExecutionStatus.UNSETTLED})
# Counts wait in memory for the next writing; what comes on top of this many keys is not counted.
_MAX_WAITING = 20_000


@dataclass(frozen=True, slots=True)
class UsageKey:
    """What is counted apart. `bucket` is -1 for calls that did not run; `argument` is the one that was refused."""

    tool_name: str
    version: int
    schema_hash: str
    day: date
    status: ExecutionStatus
    bucket: int
    argument: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Calls of one key, and what they cost."""

    key: UsageKey
    calls: int
    cost_micros: int


@dataclass(frozen=True, slots=True)
class ToolQuality:
    """How calls of one version of a tool ended; times are in milliseconds."""

    name: str
    version: int
    schema_hash: str
    by_status: Mapping[ExecutionStatus, int]
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cost_micros: int
    argument_errors: tuple[tuple[str, int], ...]

    @property
    def calls(self) -> int:
        """All of them."""
        return sum(self.by_status.values())


class UsageStore(ABC):
    """Keeps the counts."""

    @abstractmethod
    async def add(self, tenant_id: str, counts: Iterable[Usage]) -> None:
        """Adds to what is there."""

    @abstractmethod
    async def since(self, tenant_id: str, first: date, name: str) -> list[Usage]:
        """The counts from that day on, of one tool or, for an empty name, all."""

    @abstractmethod
    async def purge(self, tenant_id: str, before: date) -> None:
        """Removes counts of days before that one."""


class UsageBook:
    """Counts in memory, writes now and then, and reports.

    A process that is killed loses what it counted since the last writing: these are statistics, not the ledger.
    """

    def __init__(self, store: UsageStore, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._waiting: defaultdict[str, Counter[UsageKey]] = defaultdict(Counter)
        self._costs: defaultdict[str, Counter[UsageKey]] = defaultdict(Counter)
        self._keys = 0
        self._purged: dict[str, date] = {}

    def count(self, tenant_id: str, tool: Tool, outcome: Outcome, argument: str = "") -> None:
        """Counts one call; the replay of a stored effect is none."""
        if outcome.replayed:
            return
        bucket = -1 if outcome.status in _NOT_RUN else bucket_of(outcome.duration_ms)
        hash_ = tool.schema_hash[:HASH_CHARACTERS]
        key = UsageKey(tool.name, tool.version, hash_, self._clock().date(), outcome.status, bucket, argument)
        counts = self._waiting[tenant_id]
        if key not in counts:
            if self._keys >= _MAX_WAITING:
                return
            self._keys += 1
        counts[key] += 1
        if outcome.cost_micros:
            self._costs[tenant_id][key] += outcome.cost_micros

    async def write(self) -> None:
        """Stores what was counted. Raises what the store raises; the counts are kept for the next time then."""
        for tenant_id in list(self._waiting):
            counts, costs = self._waiting.pop(tenant_id), self._costs.pop(tenant_id, Counter())
            self._keys -= len(counts)
            try:
                await self._store.add(tenant_id, [Usage(key, calls, costs[key]) for key, calls in counts.items()])
            except Exception:
                self._keys += len(counts.keys() - self._waiting[tenant_id].keys())
                self._waiting[tenant_id] += counts
                self._costs[tenant_id] += costs
                raise
            await self._purge(tenant_id)

    async def report(self, tenant_id: str, *, days: int, name: str) -> list[ToolQuality]:
        """By tool and version, the most called first, what this process has not written yet included."""
        await self.write()
        first = self._clock().date() - timedelta(days=(days or DEFAULT_DAYS) - 1)
        return summarised(await self._store.since(tenant_id, first, name))

    async def _purge(self, tenant_id: str) -> None:
        today = self._clock().date()
        if self._purged.get(tenant_id) == today:
            return
        if len(self._purged) >= _MAX_WAITING:
            self._purged.clear()
        self._purged[tenant_id] = today
        await self._store.purge(tenant_id, today - timedelta(days=RETENTION_DAYS))


def bucket_of(milliseconds: float) -> int:
    """The number of the bucket that a duration falls into."""
    if milliseconds <= 1:
        return 0
    return min(_LAST_BUCKET, math.ceil(_STEPS_PER_DOUBLING * math.log2(milliseconds)))


def bucket_end_ms(bucket: int) -> float:
    """The longest duration of a bucket."""
    return float(2 ** (bucket / _STEPS_PER_DOUBLING))


def summarised(counts: Iterable[Usage]) -> list[ToolQuality]:
    """Counts of days, statuses and buckets as one row for each version of a tool."""
    grouped: defaultdict[tuple[str, int, str], list[Usage]] = defaultdict(list)
    for usage in counts:
        grouped[usage.key.tool_name, usage.key.version, usage.key.schema_hash].append(usage)
    rows = [_quality(*version, usages) for version, usages in grouped.items()]
    return sorted(rows, key=lambda row: (-row.calls, row.name, -row.version))[:MAX_ROWS]


def _quality(name: str, version: int, schema_hash: str, usages: list[Usage]) -> ToolQuality:
    by_status: Counter[ExecutionStatus] = Counter()
    buckets: Counter[int] = Counter()
    arguments: Counter[str] = Counter()
    for usage in usages:
        by_status[usage.key.status] += usage.calls
        if usage.key.bucket >= 0:
            buckets[usage.key.bucket] += usage.calls
        if usage.key.status is ExecutionStatus.INVALID_ARGUMENTS:
            arguments[usage.key.argument] += usage.calls
    p50_ms, p95_ms, p99_ms = (percentile(buckets, share) for share in (0.5, 0.95, 0.99))
    return ToolQuality(
        name,
        version,
        schema_hash,
        by_status,
        p50_ms,
        p95_ms,
        p99_ms,
        cost_micros=sum(usage.cost_micros for usage in usages),
        argument_errors=tuple(arguments.most_common(10)),
    )


def percentile(buckets: Mapping[int, int], share: float) -> float:
    """The duration that this share of the calls took at most, within its bucket by even spread; 0 for no calls."""
    left = share * sum(buckets.values())
    for bucket in sorted(buckets):
        if left <= buckets[bucket]:
            start = bucket_end_ms(bucket - 1) if bucket else 0.0
            return round(start + (bucket_end_ms(bucket) - start) * left / buckets[bucket], 2)
        left -= buckets[bucket]
    return 0.0
