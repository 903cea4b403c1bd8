"""Tools and what belongs to them, as clients of the REST API see them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from errand_gateway.domain.resources import JsonObject


class SideEffect(StrEnum):
    """What a call of a tool changes in the world."""

    NONE = "none"
    IDEMPOTENT = "idempotent"
    RECONCILE = "reconcile"
    ASK = "ask"


class RetryClass(StrEnum):
    """Whether a call of a tool that failed is sent again by itself."""

    NEVER = "never"
    TRANSIENT = "transient"


class ToolKind(StrEnum):
    """Where a tool comes from."""

    BUILTIN = "builtin"
    HTTP = "http"
    MCP = "mcp"
    GRPC = "grpc"
    WASM = "wasm"
    PYTHON = "python"
    UNKNOWN = "unknown"


class ToolPolicy(StrEnum):
    """Who decides whether a call may run."""

    AUTO = "auto"
    ASK = "ask"
    DENY = "deny"


class HttpMethod(StrEnum):
    """How an HTTP tool is called."""

    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"


class AuthScheme(StrEnum):
    """How a secret is sent."""

    BEARER = "bearer"
    BASIC = "basic"
    HEADER = "header"
    CLIENT_CREDENTIALS = "client_credentials"


@dataclass(frozen=True, slots=True)
class ToolAuth:
    """Authentication by a stored secret; `header` names the header of the scheme `header`, the rest is for OAuth."""

    scheme: AuthScheme
    secret: str
    header: str = ""
    token_url: str = ""
    client_id: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True)
class HttpBinding:
    """The endpoint of an HTTP tool; {name} in the template is replaced by the argument."""

    method: HttpMethod
    url_template: str
    auth: ToolAuth | None = None
    query_arguments: Sequence[str] = field(default_factory=tuple)
    body_argument: str = ""
    body_template: Any = None


@dataclass(frozen=True, slots=True)
class GrpcBinding:
    """A unary method, `package.Service/Method`, of a server that tells its messages by reflection."""

    target: str
    method: str
    plaintext: bool = False
    auth: ToolAuth | None = None


@dataclass(frozen=True, slots=True)
class WasmBinding:
    """A WebAssembly module by the SHA-256 of its binary form."""

    sha256: str
    memory_mib: int


@dataclass(frozen=True, slots=True)
class PythonBinding:
    """Code for the sandbox; the arguments are its variables."""

    code: str


@dataclass(frozen=True, slots=True)
class ToolLimits:
    """Bounds of one tool in each replica; 0 is the service's own bound."""

    calls_per_minute: int = 0
    concurrent_calls: int = 0


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """What a remote server offers under a tool's name and nobody approved yet."""

    description: str
    parameters: JsonObject
    schema_hash: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that agents may use; with an `offer` it is held until somebody approves that.

    `role_policies` hold for those roles instead of `policy`, and `effective_policy` for the caller. `cost_micros` of
    one call are in millionths of a US dollar.
    """

    name: str
    description: str
    parameters: JsonObject
    kind: ToolKind
    enabled: bool
    timeout_ms: int
    side_effect: SideEffect
    policy: ToolPolicy
    http: HttpBinding | None
    reconcile_tool: str
    schema_hash: str
    mcp_server: str = ""
    offer: ToolOffer | None = None
    grpc: GrpcBinding | None = None
    wasm: WasmBinding | None = None
    python: PythonBinding | None = None
    limits: ToolLimits = field(default_factory=ToolLimits)
    cost_micros: int = 0
    role_policies: Mapping[str, ToolPolicy] = field(default_factory=dict)
    effective_policy: ToolPolicy = ToolPolicy.AUTO
    result_schema: JsonObject | None = None
    examples: Sequence[JsonObject] = field(default_factory=tuple)
    retry: RetryClass = RetryClass.NEVER
    version: int = 0
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ToolFilter:
    """Which tools are listed."""

    enabled_only: bool = False
    query: str = ""
    kind: ToolKind | None = None
    mcp_server: str = ""


@dataclass(frozen=True, slots=True)
class ArgumentErrors:
    """Calls that one argument was refused of; `argument` is empty where it was none of the tool's."""

    argument: str
    calls: int


@dataclass(frozen=True, slots=True)
class ToolQuality:
    """How calls of one version of a tool ended; times of those that ran, costs in millionths of a US dollar."""

    name: str
    version: int
    schema_hash: str
    calls: int
    succeeded: int
    invalid_arguments: int
    failed: int
    timed_out: int
    denied: int
    unsettled: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cost_micros: int
    argument_errors: Sequence[ArgumentErrors]


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret without its value, which nobody can read back."""

    name: str
    hosts: Sequence[str]
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class SkippedOperation:
    """What was left out of an import, and why."""

    operation: str
    reason: str


@dataclass(frozen=True, slots=True)
class ToolImport:
    """An OpenAPI document and what is added to it."""

    document: str
    name_prefix: str
    base_url: str
    auth: ToolAuth | None
    side_effect: SideEffect
    policy: ToolPolicy
    replace: bool
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import gave."""

    tools: Sequence[Tool]
    skipped: Sequence[SkippedOperation]


@dataclass(frozen=True, slots=True)
class McpServer:
    """An MCP server: a URL, or the name of a stdio server that the operator offers."""

    name: str
    url: str
    stdio: str
    auth: ToolAuth | None
    side_effect: SideEffect
    policy: ToolPolicy
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class RegisteredMcpServer:
    """A server with the tools it lists, which its registration approves."""

    server: McpServer
    tools: Sequence[Tool]
    skipped: Sequence[SkippedOperation]


@dataclass(frozen=True, slots=True)
class SyncedMcpServer:
    """What is new at a server: held tools wait for approval, removed ones it has no more."""

    held: Sequence[Tool]
    unchanged: Sequence[str]
    removed: Sequence[str]
    skipped: Sequence[SkippedOperation]


@dataclass(frozen=True, slots=True)
class LintFinding:
    """Something a small model stumbles over; `argument` is empty for the tool itself."""

    rule: str
    argument: str
    message: str


@dataclass(frozen=True, slots=True)
class ToolRating:
    """How well a small model can use a tool: 100 has no findings."""

    score: int
    findings: Sequence[LintFinding]


class EffectState(StrEnum):
    """What is known of a tool call's outcome."""

    DISPATCHED = "dispatched"
    COMPLETED = "completed"
    UNSETTLED = "unsettled"


class ExecutionStatus(StrEnum):
    """How a tool call ended."""

    SUCCEEDED = "succeeded"
    INVALID_ARGUMENTS = "invalid_arguments"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    DENIED = "denied"
    UNKNOWN_TOOL = "unknown_tool"
    UNSETTLED = "unsettled"


@dataclass(frozen=True, slots=True)
class Effect:
    """An entry of the effect ledger."""

    id: str
    run_id: str
    step: int
    call_index: int
    tool_name: str
    arguments_hash: str
    state: EffectState
    status: ExecutionStatus | None
    created_at: datetime | None
    completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call of a tool gave; `result` of a failed one is {"error": …}."""

    status: ExecutionStatus
    result: Any
    duration_ms: float
    truncated: bool
    effect_id: str
    replayed: bool
    cost_micros: int = 0
