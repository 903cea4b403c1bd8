"""What clients of the REST API see."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

JsonObject = dict[str, Any]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a listing; an empty `next_page_token` means that it is the last one."""

    items: Sequence[T]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Which page is wanted; size 0 takes the default of 50."""

    size: int = 0
    token: str = ""


class StopReason(StrEnum):
    """Why a run ended."""

    ANSWER = "answer"
    MAX_STEPS = "max_steps"
    MAX_TOKENS = "max_tokens"
    DEADLINE = "deadline"
    ERROR_THRESHOLD = "error_threshold"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"
    NEEDS_APPROVAL = "needs_approval"
    MAX_COST = "max_cost"
    INCOMPATIBLE = "incompatible"


class RunState(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"
    WAITING = "waiting"


class RunPriority(StrEnum):
    """When a run begins: at once, or from the queue."""

    AT_ONCE = "at_once"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class WhenBusy(StrEnum):
    """What happens to a message while another one of its conversation is being answered."""

    REFUSE = "refuse"
    QUEUE = "queue"


class ApprovalState(StrEnum):
    """Where a call that needs a person's approval stands."""

    PENDING = "pending"
    APPROVED = "approved"
    REFUSED = "refused"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Approval:
    """A tool call that needs a person's approval; `edited_arguments` are those it runs with instead."""

    id: str
    run_id: str
    tool_name: str
    arguments: JsonObject | None
    state: ApprovalState
    edited_arguments: JsonObject | None = None
    reason: str = ""
    decided_by: str = ""
    created_at: datetime | None = None
    expires_at: datetime | None = None
    decided_at: datetime | None = None


class StepKind(StrEnum):
    """What a step of a run was."""

    RETRIEVE = "retrieve"
    THINK = "think"
    ACT = "act"
    OBSERVE = "observe"
    ANSWER = "answer"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, counted by the model's own tokenizer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a run, for a person to read; `run_id` is that of the agent it called."""

    index: int
    kind: StepKind
    summary: str
    tool_name: str | None
    arguments: JsonObject | None
    result: Any
    duration_ms: float
    usage: Usage | None
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Citation:
    """A source the answer points to; `number` is the n of [n]."""

    number: int
    chunk_id: str
    document_id: str
    title: str
    page: int | None
    start_offset: int
    end_offset: int
    text: str


@dataclass(frozen=True, slots=True)
class Run:
    """A run of an agent on one message.

    `cost_micros` is in millionths of a US dollar, at the operator's prices; `approvals` are those it waits for.
    """

    id: str
    conversation_id: str
    agent: str
    state: RunState
    stop_reason: StopReason | None
    message: str
    answer: str
    steps: Sequence[Step]
    citations: Sequence[Citation]
    usage: Usage
    last_sequence: int
    created_at: datetime | None
    ended_at: datetime | None
    cost_micros: int = 0
    forked_from: str = ""
    parent_run_id: str = ""
    prompt: str = ""
    approvals: Sequence[Approval] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run began."""

    run_id: str
    conversation_id: str
    agent: str


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolProgress:
    """How far a running tool is, in its own words and unit; a `total` of 0 is not known."""

    tool_name: str
    call_index: int
    message: str
    done: float
    total: float
    elapsed_ms: float


@dataclass(frozen=True, slots=True)
class RunEvent:
    """An event of a run; `sequence` counts from 1. A tool's progress has that of the event before it."""

    sequence: int
    at: datetime | None
    body: RunStarted | Step | TextDelta | ToolProgress | Approval | Run


@dataclass(frozen=True, slots=True)
class RunCommand:
    """A message for an agent."""

    message: str
    agent: str = ""
    conversation_id: str = ""
    idempotency_key: str = ""
    when_busy: WhenBusy = WhenBusy.REFUSE
    priority: RunPriority = RunPriority.AT_ONCE
    start_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs are listed; what is left out does not narrow."""

    conversation_id: str = ""
    state: RunState | None = None
    agent: str = ""
    stop_reasons: Sequence[StopReason] = ()
    parent_run_id: str = ""


@dataclass(frozen=True, slots=True)
class ForkCommand:
    """Where another run goes on, and with what; None keeps the agent's own."""

    from_model_step: int
    instructions: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation with an agent; one in the archive is left out of listings."""

    id: str
    title: str
    agent: str
    message_count: int
    created_at: datetime | None
    updated_at: datetime | None
    archived: bool = False


class MessageRole(StrEnum):
    """Who wrote a message."""

    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a conversation."""

    id: str
    role: MessageRole
    text: str
    run_id: str
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent: what it is told, what it may use, where it stops."""

    name: str
    description: str = ""
    instructions: str = ""
    model: str = ""
    tools: Sequence[str] = field(default_factory=tuple)
    collections: Sequence[str] = field(default_factory=tuple)
    max_steps: int = 0
    max_tokens: int = 0
    max_seconds: int = 0
    max_errors: int = 0
    version: int = 0
    is_default: bool = False
    max_cost_micros: int = 0
    max_shown_tools: int = 0
    agents: Sequence[str] = field(default_factory=tuple)
    fallback_models: Sequence[str] = field(default_factory=tuple)
    temperature: float = 0.0
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a person thinks of a run's answer."""

    run_id: str
    helpful: bool
    comment: str = ""
    correction: str = ""
