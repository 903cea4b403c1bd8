"""What a tool is, and what a call of one gives."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from errand_tools.domain.progress import Tell, unheard

JsonObject = dict[str, Any]

DEFAULT_TIMEOUT_MS = 10_000
DEFAULT_MEMORY_MIB = 32


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
    GRPC = "grpc"
    WASM = "wasm"
    PYTHON = "python"


class ToolPolicy(StrEnum):
    """Who decides whether a call may run. ASK is decided by the agent before it calls."""

    AUTO = "auto"
    ASK = "ask"
    DENY = "deny"


class RetryClass(StrEnum):
    """Whether a call that failed is sent again by itself."""

    NEVER = "never"
    TRANSIENT = "transient"


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
    CLIENT_CREDENTIALS = "client_credentials"


@dataclass(frozen=True, slots=True)
class HttpAuth:
    """Authentication by a stored secret; `header` names the header of the scheme HEADER.

    Under CLIENT_CREDENTIALS the secret is that of the OAuth client `client_id`, and goes to `token_url` for a token.
    """

    scheme: AuthScheme
    secret: str
    header: str = ""
    token_url: str = ""
    client_id: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True)
class HttpBinding:
    """How an HTTP tool is called; {name} in the template is replaced by that argument.

    `query_arguments` go to the query even where the rest goes to the body; `body_argument` is the whole body, or
    `body_template` (JSON text) says how it looks.
    """

    method: str
    url_template: str
    auth: HttpAuth | None = None
    query_arguments: tuple[str, ...] = ()
    body_argument: str = ""
    body_template: str = ""


@dataclass(frozen=True, slots=True)
class McpBinding:
    """The MCP server a tool comes from, and its name there."""

    server: str
    tool: str


@dataclass(frozen=True, slots=True)
class GrpcBinding:
    """A unary method, 'package.Service/Method', at host:port; `artifact` are its pinned descriptors."""

    target: str
    method: str
    plaintext: bool = False
    auth: HttpAuth | None = None
    artifact: str = ""

    @property
    def url(self) -> str:
        """The target as a URL, for what is bound to hosts."""
        return f"{'http' if self.plaintext else 'https'}://{self.target}"


@dataclass(frozen=True, slots=True)
class WasmBinding:
    """A WebAssembly module by the SHA-256 of its binary form, and the most memory it may have."""

    artifact: str
    memory_mib: int = DEFAULT_MEMORY_MIB


@dataclass(frozen=True, slots=True)
class PythonBinding:
    """Code for the sandbox; the arguments are its variables."""

    code: str


@dataclass(frozen=True, slots=True)
class ToolLimits:
    """Bounds of one tool, 0 for the service's own."""

    calls_per_minute: int = 0
    concurrent_calls: int = 0


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server offers under a tool's name and nobody approved yet."""

    description: str
    parameters: JsonObject
    hash: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as a tenant sees it.

    `cost_micros` of a call are millionths of a US dollar; `examples` are arguments as JSON text.
    """

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
    grpc: GrpcBinding | None = None
    wasm: WasmBinding | None = None
    python: PythonBinding | None = None
    limits: ToolLimits = ToolLimits()
    cost_micros: int = 0
    role_policies: tuple[tuple[str, ToolPolicy], ...] = ()
    result_schema: JsonObject | None = None
    examples: tuple[str, ...] = ()
    retry: RetryClass = RetryClass.NEVER
    version: int = 1
    # When the version was made: two that were made at different times are equal all the same.
    updated_at: datetime | None = field(default=None, compare=False)

    @property
    def artifact(self) -> str:
        """SHA-256 of the bytes that are kept beside the tool; empty for none."""
        if self.wasm is not None:
            return self.wasm.artifact
        return self.grpc.artifact if self.grpc is not None else ""

    @property
    def parameters_json(self) -> str:
        """The schema as JSON text, keys in the order they were registered in."""
        return json.dumps(self.parameters, ensure_ascii=False, separators=(",", ":"))


def next_version(tool: Tool, before: Tool | None, now: datetime) -> Tool:
    """The tool as it is stored over the one of before: with a new version only where something has changed."""
    if before is None:
        return replace(tool, version=1, updated_at=now)
    if _content(tool) == _content(before):
        return replace(tool, enabled=before.enabled, version=before.version, updated_at=before.updated_at)
    return replace(tool, enabled=before.enabled, version=before.version + 1, updated_at=now)


def _content(tool: Tool) -> Tool:
    """What makes a version: all but how the tool is kept."""
    return replace(tool, enabled=True, offer=None, version=0)


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
    cost_micros: int = 0


def failure(status: ExecutionStatus, message: str, **more: Any) -> Outcome:
    """An outcome that tells the model in one sentence what went wrong."""
    return Outcome(status, json.dumps({"error": message}, ensure_ascii=False), **more)


@dataclass(frozen=True, slots=True)
class CallContext:
    """What a runner knows of the call besides its arguments; by `tell` it says how far it is."""

    timeout_seconds: float
    effect_id: str = ""
    collection_ids: tuple[str, ...] = ()
    tell: Tell = unheard


# ToolError ── the call ended, and its outcome is known
#   ├─ ToolFailed          the model may try another way
#   │    ├─ ToolNotFound   the service said that the thing asked for does not exist
#   │    ├─ ToolBusy       a bound on calls was met; nothing was sent
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


class ToolBusy(ToolFailed):
    """A bound on calls was met; nothing was sent."""


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
