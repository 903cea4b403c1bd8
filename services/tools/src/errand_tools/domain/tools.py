"""What a tool is, and what a call of one gives."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

JsonObject = dict[str, Any]

DEFAULT_TIMEOUT_MS = 10_000


class SideEffect(StrEnum):
    """What a call changes in the world, and so what a replay may do."""

    NONE = "none"
    IDEMPOTENT = "idempotent"
    RECONCILE = "reconcile"
    ASK = "ask"


class ToolKind(StrEnum):
    """Where a tool comes from."""

    BUILTIN = "builtin"
    HTTP = "http"
    MCP = "mcp"


class ToolPolicy(StrEnum):
    """Who decides whether a call may run. ASK is decided by the agent before it calls."""

    AUTO = "auto"
    ASK = "ask"
    DENY = "deny"


class ExecutionStatus(StrEnum):
    """How a call ended."""

    SUCCEEDED = "succeeded"
    INVALID_ARGUMENTS = "invalid_arguments"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    DENIED = "denied"
    UNKNOWN_TOOL = "unknown_tool"
    UNSETTLED = "unsettled"


class AuthScheme(StrEnum):
    """How a secret is sent."""

    BEARER = "bearer"
    BASIC = "basic"
    HEADER = "header"


@dataclass(frozen=True, slots=True)
class HttpAuth:
    """Authentication by a stored secret; `header` names the header of the scheme HEADER."""

    scheme: AuthScheme
    secret: str
    header: str = ""


@dataclass(frozen=True, slots=True)
class HttpBinding:
    """How an HTTP tool is called; {name} in the template is replaced by that argument.

    `query_arguments` go to the query even where the rest goes to the body; `body_argument` is the whole body.
    """

    method: str
    url_template: str
    auth: HttpAuth | None = None
    query_arguments: tuple[str, ...] = ()
    body_argument: str = ""


@dataclass(frozen=True, slots=True)
class McpBinding:
    """The MCP server a tool comes from, and its name there."""

    server: str
    tool: str


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server offers under a tool's name and nobody approved yet."""

    description: str
    parameters: JsonObject
    hash: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as a tenant sees it."""

    name: str
    description: str
    parameters: JsonObject
    timeout_ms: int = DEFAULT_TIMEOUT_MS
    side_effect: SideEffect = SideEffect.NONE
    policy: ToolPolicy = ToolPolicy.AUTO
    kind: ToolKind = ToolKind.HTTP
    http: HttpBinding | None = None
    mcp: McpBinding | None = None
    offer: Offer | None = None
    enabled: bool = True
    reconcile_tool: str = ""
    schema_hash: str = field(default="")

    @property
    def parameters_json(self) -> str:
        """The schema as JSON text, keys in the order they were registered in."""
        return json.dumps(self.parameters, ensure_ascii=False, separators=(",", ":"))


def schema_hash(description: str, parameters: Mapping[str, Any]) -> str:
    """SHA-256 over description and parameters, hex: changes when the model would see a change."""
    return hashlib.sha256(canonical_json([description, parameters]).encode()).hexdigest()


def canonical_json(value: object) -> str:
    """JSON text that is equal for equal values: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended, and what the model is told."""

    status: ExecutionStatus
    result_json: str
    duration_ms: float = 0.0
    truncated: bool = False
    effect_id: str = ""
    replayed: bool = False


def failure(status: ExecutionStatus, message: str, **more: Any) -> Outcome:
    """An outcome that tells the model in one sentence what went wrong."""
    return Outcome(status, json.dumps({"error": message}, ensure_ascii=False), **more)


@dataclass(frozen=True, slots=True)
class CallContext:
    """What a runner knows of the call besides its arguments."""

    timeout_seconds: float
    effect_id: str = ""
    collection_ids: tuple[str, ...] = ()


# ToolError ── the call ended, and its outcome is known
#   ├─ ToolFailed          the model may try another way
#   │    ├─ ToolNotFound   the service said that the thing asked for does not exist
#   │    └─ ServiceDown    the endpoint cannot be reached or is at fault itself
#   ├─ ToolTimedOut
#   └─ ToolDenied          a policy, the sandbox or the allow list forbids it
# OutcomeUnknown ── the call was sent, and nobody knows what came of it


class ToolError(Exception):
    """A call ended without a result; the message is one sentence for the model."""

    status = ExecutionStatus.FAILED

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ToolFailed(ToolError):  # noqa: N818  reads as what happened
    """The tool could not do it."""


class ToolNotFound(ToolFailed):
    """The service answered that the thing asked for does not exist."""


class ServiceDown(ToolFailed):
    """The endpoint cannot be reached, or answered that it is at fault itself."""


class ToolTimedOut(ToolError):  # noqa: N818  reads as what happened
    """The tool took longer than its limit."""

    status = ExecutionStatus.TIMED_OUT


class ToolDenied(ToolError):  # noqa: N818  reads as what happened
    """A policy, the sandbox or the allow list forbids it."""

    status = ExecutionStatus.DENIED


class OutcomeUnknown(Exception):  # noqa: N818  a state of knowledge, not a fault
    """The call was sent and its answer was lost; the message is one sentence for the model."""

    def __init__(self, message: str, *, status: ExecutionStatus) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
