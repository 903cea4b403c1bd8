"""Runs, their steps and events."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from errand_agent.domain.approvals import Approval


class StopReason(StrEnum):
    """Why a run ended; the names of errand.agent.v1.StopReason."""

    ANSWER = "ANSWER"
    MAX_STEPS = "MAX_STEPS"
    MAX_TOKENS = "MAX_TOKENS"
    DEADLINE = "DEADLINE"
    ERROR_THRESHOLD = "ERROR_THRESHOLD"
    CANCELLED = "CANCELLED"
    REFUSED = "REFUSED"
    UNAVAILABLE = "UNAVAILABLE"
    INTERNAL = "INTERNAL"
    NEEDS_APPROVAL = "NEEDS_APPROVAL"
    MAX_COST = "MAX_COST"
    INCOMPATIBLE = "INCOMPATIBLE"


class RunState(StrEnum):
    """Where a run is."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    ENDED = "ENDED"
    WAITING = "WAITING"


class Priority(StrEnum):
    """When a run begins among others: at once, or from the queue."""

    AT_ONCE = "AT_ONCE"
    HIGH = "HIGH"
    NORMAL = "NORMAL"
    LOW = "LOW"


class StepKind(StrEnum):
    """What a step was."""

    RETRIEVE = "RETRIEVE"
    THINK = "THINK"
    ACT = "ACT"
    OBSERVE = "OBSERVE"
    ANSWER = "ANSWER"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, and what tools cost in millionths of a US dollar."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    tool_cost_micros: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.tool_cost_micros + other.tool_cost_micros,
        )

    @property
    def total(self) -> int:
        """Tokens that count against a run's limit."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a run, for a person to read."""

    kind: StepKind
    summary: str
    tool_name: str = ""
    arguments_json: str = ""
    result_json: str = ""
    duration_ms: float = 0.0
    usage: Usage = field(default_factory=Usage)
    run_id: str = ""

    def to_json(self) -> dict[str, Any]:
        """As stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Step:
        """From what was stored."""
        known = {**stored, "kind": StepKind(stored["kind"]), "usage": Usage(**stored["usage"])}
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Citation:
    """A source that an answer points to by its number."""

    number: int
    chunk_id: str
    document_id: str
    title: str
    text: str
    page: int | None = None
    start_offset: int = 0
    end_offset: int = 0


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a person says of a run's answer; `comment` and `correction` may be empty."""

    run_id: str
    principal_id: str
    helpful: bool
    comment: str
    correction: str


@dataclass(frozen=True, slots=True)
class Prices:
    """What a model's tokens cost, in US dollars a million: millionths of a dollar each."""

    prompt: float = 0.0
    completion: float = 0.0

    def cost_micros(self, usage: Usage) -> int:
        """What these tokens and tools cost, in millionths of a US dollar, rounded up."""
        tokens = math.ceil(usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion)
        return tokens + usage.tool_cost_micros


@dataclass(frozen=True, slots=True)
class Brief:
    """A conversation's older turns in few words; `turns` of those that a run read are in it."""

    text: str
    turns: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a run stops. A cost of 0 is no limit."""

    max_steps: int = 8
    max_tokens: int = 65_536
    max_seconds: int = 120
    max_errors: int = 3
    max_cost_micros: int = 0


@dataclass(frozen=True, slots=True)
class Budget:
    """What is left of a run for others that it begins. A cost of 0 is no limit."""

    tokens: int
    cost_micros: int = 0
    seconds: float = math.inf


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended; `paused_seconds` is the time that people took to decide."""

    stop_reason: StopReason
    answer: str
    citations: tuple[Citation, ...] = ()
    usage: Usage = field(default_factory=Usage)
    cost_micros: int = 0
    brief: Brief | None = None
    paused_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it is stored."""

    id: str
    tenant_id: str
    principal_id: str
    conversation_id: str
    agent: str
    message: str
    state: RunState
    created_at: datetime
    stop_reason: StopReason | None = None
    answer: str = ""
    citations: tuple[Citation, ...] = ()
    usage: Usage = field(default_factory=Usage)
    last_sequence: int = 0
    ended_at: datetime | None = None
    cancel_requested: bool = False
    steps: tuple[Step, ...] = ()
    cost_micros: int = 0
    forked_from: str = ""
    approvals: tuple[Approval, ...] = ()
    parent_run_id: str = ""
    paused_seconds: float = 0.0
    prompt: str = ""
    priority: Priority = Priority.AT_ONCE
    waiting: bool = False
    start_at: datetime | None = None


class EventKind(StrEnum):
    """What an event tells."""

    STARTED = "started"
    STEP = "step"
    DELTA = "delta"
    ENDED = "ended"
    APPROVAL = "approval"
    TOOL_PROGRESS = "tool_progress"


@dataclass(frozen=True, slots=True)
class RunEvent:
    """An event of a run's ordered log. `payload` depends on the kind.

    A step, a text, an approval's id and state, or nothing. How far a tool is is not in the log; it has the number of
    the event before it.
    """

    sequence: int
    at: datetime
    kind: EventKind
    payload: Mapping[str, Any]
