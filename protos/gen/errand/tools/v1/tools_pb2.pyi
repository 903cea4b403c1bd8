import datetime

from buf.validate import validate_pb2 as _validate_pb2
from errand.common.v1 import common_pb2 as _common_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RetryClass(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RETRY_CLASS_UNSPECIFIED: _ClassVar[RetryClass]
    RETRY_CLASS_NEVER: _ClassVar[RetryClass]
    RETRY_CLASS_TRANSIENT: _ClassVar[RetryClass]

class SideEffect(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SIDE_EFFECT_UNSPECIFIED: _ClassVar[SideEffect]
    SIDE_EFFECT_NONE: _ClassVar[SideEffect]
    SIDE_EFFECT_IDEMPOTENT: _ClassVar[SideEffect]
    SIDE_EFFECT_RECONCILE: _ClassVar[SideEffect]
    SIDE_EFFECT_ASK: _ClassVar[SideEffect]

class ToolKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOOL_KIND_UNSPECIFIED: _ClassVar[ToolKind]
    TOOL_KIND_BUILTIN: _ClassVar[ToolKind]
    TOOL_KIND_HTTP: _ClassVar[ToolKind]
    TOOL_KIND_MCP: _ClassVar[ToolKind]
    TOOL_KIND_GRPC: _ClassVar[ToolKind]
    TOOL_KIND_WASM: _ClassVar[ToolKind]
    TOOL_KIND_PYTHON: _ClassVar[ToolKind]

class ToolPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOOL_POLICY_UNSPECIFIED: _ClassVar[ToolPolicy]
    TOOL_POLICY_AUTO: _ClassVar[ToolPolicy]
    TOOL_POLICY_ASK: _ClassVar[ToolPolicy]
    TOOL_POLICY_DENY: _ClassVar[ToolPolicy]

class HttpAuthScheme(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HTTP_AUTH_SCHEME_UNSPECIFIED: _ClassVar[HttpAuthScheme]
    HTTP_AUTH_SCHEME_BEARER: _ClassVar[HttpAuthScheme]
    HTTP_AUTH_SCHEME_BASIC: _ClassVar[HttpAuthScheme]
    HTTP_AUTH_SCHEME_HEADER: _ClassVar[HttpAuthScheme]
    HTTP_AUTH_SCHEME_CLIENT_CREDENTIALS: _ClassVar[HttpAuthScheme]

class ExecutionStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXECUTION_STATUS_UNSPECIFIED: _ClassVar[ExecutionStatus]
    EXECUTION_STATUS_SUCCEEDED: _ClassVar[ExecutionStatus]
    EXECUTION_STATUS_INVALID_ARGUMENTS: _ClassVar[ExecutionStatus]
    EXECUTION_STATUS_FAILED: _ClassVar[ExecutionStatus]
    EXECUTION_STATUS_TIMED_OUT: _ClassVar[ExecutionStatus]
    EXECUTION_STATUS_DENIED: _ClassVar[ExecutionStatus]
    EXECUTION_STATUS_UNKNOWN_TOOL: _ClassVar[ExecutionStatus]
    EXECUTION_STATUS_UNSETTLED: _ClassVar[ExecutionStatus]

class EffectState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EFFECT_STATE_UNSPECIFIED: _ClassVar[EffectState]
    EFFECT_STATE_DISPATCHED: _ClassVar[EffectState]
    EFFECT_STATE_COMPLETED: _ClassVar[EffectState]
    EFFECT_STATE_UNSETTLED: _ClassVar[EffectState]
RETRY_CLASS_UNSPECIFIED: RetryClass
RETRY_CLASS_NEVER: RetryClass
RETRY_CLASS_TRANSIENT: RetryClass
SIDE_EFFECT_UNSPECIFIED: SideEffect
SIDE_EFFECT_NONE: SideEffect
SIDE_EFFECT_IDEMPOTENT: SideEffect
SIDE_EFFECT_RECONCILE: SideEffect
SIDE_EFFECT_ASK: SideEffect
TOOL_KIND_UNSPECIFIED: ToolKind
TOOL_KIND_BUILTIN: ToolKind
TOOL_KIND_HTTP: ToolKind
TOOL_KIND_MCP: ToolKind
TOOL_KIND_GRPC: ToolKind
TOOL_KIND_WASM: ToolKind
TOOL_KIND_PYTHON: ToolKind
TOOL_POLICY_UNSPECIFIED: ToolPolicy
TOOL_POLICY_AUTO: ToolPolicy
TOOL_POLICY_ASK: ToolPolicy
TOOL_POLICY_DENY: ToolPolicy
HTTP_AUTH_SCHEME_UNSPECIFIED: HttpAuthScheme
HTTP_AUTH_SCHEME_BEARER: HttpAuthScheme
HTTP_AUTH_SCHEME_BASIC: HttpAuthScheme
HTTP_AUTH_SCHEME_HEADER: HttpAuthScheme
HTTP_AUTH_SCHEME_CLIENT_CREDENTIALS: HttpAuthScheme
EXECUTION_STATUS_UNSPECIFIED: ExecutionStatus
EXECUTION_STATUS_SUCCEEDED: ExecutionStatus
EXECUTION_STATUS_INVALID_ARGUMENTS: ExecutionStatus
EXECUTION_STATUS_FAILED: ExecutionStatus
EXECUTION_STATUS_TIMED_OUT: ExecutionStatus
EXECUTION_STATUS_DENIED: ExecutionStatus
EXECUTION_STATUS_UNKNOWN_TOOL: ExecutionStatus
EXECUTION_STATUS_UNSETTLED: ExecutionStatus
EFFECT_STATE_UNSPECIFIED: EffectState
EFFECT_STATE_DISPATCHED: EffectState
EFFECT_STATE_COMPLETED: EffectState
EFFECT_STATE_UNSETTLED: EffectState

class HttpBinding(_message.Message):
    __slots__ = ("method", "url_template", "auth", "query_arguments", "body_argument", "body_template_json")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    URL_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    AUTH_FIELD_NUMBER: _ClassVar[int]
    QUERY_ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    BODY_ARGUMENT_FIELD_NUMBER: _ClassVar[int]
    BODY_TEMPLATE_JSON_FIELD_NUMBER: _ClassVar[int]
    method: str
    url_template: str
    auth: HttpAuth
    query_arguments: _containers.RepeatedScalarFieldContainer[str]
    body_argument: str
    body_template_json: str
    def __init__(self, method: _Optional[str] = ..., url_template: _Optional[str] = ..., auth: _Optional[_Union[HttpAuth, _Mapping]] = ..., query_arguments: _Optional[_Iterable[str]] = ..., body_argument: _Optional[str] = ..., body_template_json: _Optional[str] = ...) -> None: ...

class HttpAuth(_message.Message):
    __slots__ = ("scheme", "secret", "header", "token_url", "client_id", "scope")
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    TOKEN_URL_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    scheme: HttpAuthScheme
    secret: str
    header: str
    token_url: str
    client_id: str
    scope: str
    def __init__(self, scheme: _Optional[_Union[HttpAuthScheme, str]] = ..., secret: _Optional[str] = ..., header: _Optional[str] = ..., token_url: _Optional[str] = ..., client_id: _Optional[str] = ..., scope: _Optional[str] = ...) -> None: ...

class GrpcBinding(_message.Message):
    __slots__ = ("target", "method", "plaintext", "auth")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    PLAINTEXT_FIELD_NUMBER: _ClassVar[int]
    AUTH_FIELD_NUMBER: _ClassVar[int]
    target: str
    method: str
    plaintext: bool
    auth: HttpAuth
    def __init__(self, target: _Optional[str] = ..., method: _Optional[str] = ..., plaintext: _Optional[bool] = ..., auth: _Optional[_Union[HttpAuth, _Mapping]] = ...) -> None: ...

class WasmBinding(_message.Message):
    __slots__ = ("module", "sha256", "memory_mib")
    MODULE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MIB_FIELD_NUMBER: _ClassVar[int]
    module: bytes
    sha256: str
    memory_mib: int
    def __init__(self, module: _Optional[bytes] = ..., sha256: _Optional[str] = ..., memory_mib: _Optional[int] = ...) -> None: ...

class PythonBinding(_message.Message):
    __slots__ = ("code",)
    CODE_FIELD_NUMBER: _ClassVar[int]
    code: str
    def __init__(self, code: _Optional[str] = ...) -> None: ...

class ToolLimits(_message.Message):
    __slots__ = ("calls_per_minute", "concurrent_calls")
    CALLS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    CONCURRENT_CALLS_FIELD_NUMBER: _ClassVar[int]
    calls_per_minute: int
    concurrent_calls: int
    def __init__(self, calls_per_minute: _Optional[int] = ..., concurrent_calls: _Optional[int] = ...) -> None: ...

class RolePolicy(_message.Message):
    __slots__ = ("role", "policy")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    role: str
    policy: ToolPolicy
    def __init__(self, role: _Optional[str] = ..., policy: _Optional[_Union[ToolPolicy, str]] = ...) -> None: ...

class Tool(_message.Message):
    __slots__ = ("name", "description", "parameters_json", "timeout_ms", "side_effect", "policy", "http", "kind", "enabled", "schema_hash", "reconcile_tool", "mcp_server", "offer", "grpc", "wasm", "python", "version", "limits", "cost_micros", "role_policies", "effective_policy", "updated_at", "retry", "result_schema_json", "examples_json")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_JSON_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    SIDE_EFFECT_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    HTTP_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_HASH_FIELD_NUMBER: _ClassVar[int]
    RECONCILE_TOOL_FIELD_NUMBER: _ClassVar[int]
    MCP_SERVER_FIELD_NUMBER: _ClassVar[int]
    OFFER_FIELD_NUMBER: _ClassVar[int]
    GRPC_FIELD_NUMBER: _ClassVar[int]
    WASM_FIELD_NUMBER: _ClassVar[int]
    PYTHON_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    COST_MICROS_FIELD_NUMBER: _ClassVar[int]
    ROLE_POLICIES_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_POLICY_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    RESULT_SCHEMA_JSON_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_JSON_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    parameters_json: str
    timeout_ms: int
    side_effect: SideEffect
    policy: ToolPolicy
    http: HttpBinding
    kind: ToolKind
    enabled: bool
    schema_hash: str
    reconcile_tool: str
    mcp_server: str
    offer: ToolOffer
    grpc: GrpcBinding
    wasm: WasmBinding
    python: PythonBinding
    version: int
    limits: ToolLimits
    cost_micros: int
    role_policies: _containers.RepeatedCompositeFieldContainer[RolePolicy]
    effective_policy: ToolPolicy
    updated_at: _timestamp_pb2.Timestamp
    retry: RetryClass
    result_schema_json: str
    examples_json: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., parameters_json: _Optional[str] = ..., timeout_ms: _Optional[int] = ..., side_effect: _Optional[_Union[SideEffect, str]] = ..., policy: _Optional[_Union[ToolPolicy, str]] = ..., http: _Optional[_Union[HttpBinding, _Mapping]] = ..., kind: _Optional[_Union[ToolKind, str]] = ..., enabled: _Optional[bool] = ..., schema_hash: _Optional[str] = ..., reconcile_tool: _Optional[str] = ..., mcp_server: _Optional[str] = ..., offer: _Optional[_Union[ToolOffer, _Mapping]] = ..., grpc: _Optional[_Union[GrpcBinding, _Mapping]] = ..., wasm: _Optional[_Union[WasmBinding, _Mapping]] = ..., python: _Optional[_Union[PythonBinding, _Mapping]] = ..., version: _Optional[int] = ..., limits: _Optional[_Union[ToolLimits, _Mapping]] = ..., cost_micros: _Optional[int] = ..., role_policies: _Optional[_Iterable[_Union[RolePolicy, _Mapping]]] = ..., effective_policy: _Optional[_Union[ToolPolicy, str]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., retry: _Optional[_Union[RetryClass, str]] = ..., result_schema_json: _Optional[str] = ..., examples_json: _Optional[_Iterable[str]] = ...) -> None: ...

class ToolOffer(_message.Message):
    __slots__ = ("description", "parameters_json", "schema_hash")
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_JSON_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_HASH_FIELD_NUMBER: _ClassVar[int]
    description: str
    parameters_json: str
    schema_hash: str
    def __init__(self, description: _Optional[str] = ..., parameters_json: _Optional[str] = ..., schema_hash: _Optional[str] = ...) -> None: ...

class RegisterToolRequest(_message.Message):
    __slots__ = ("tool",)
    TOOL_FIELD_NUMBER: _ClassVar[int]
    tool: Tool
    def __init__(self, tool: _Optional[_Union[Tool, _Mapping]] = ...) -> None: ...

class RegisterToolResponse(_message.Message):
    __slots__ = ("tool",)
    TOOL_FIELD_NUMBER: _ClassVar[int]
    tool: Tool
    def __init__(self, tool: _Optional[_Union[Tool, _Mapping]] = ...) -> None: ...

class UpdateToolRequest(_message.Message):
    __slots__ = ("tool", "expected_version")
    TOOL_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    tool: Tool
    expected_version: int
    def __init__(self, tool: _Optional[_Union[Tool, _Mapping]] = ..., expected_version: _Optional[int] = ...) -> None: ...

class UpdateToolResponse(_message.Message):
    __slots__ = ("tool",)
    TOOL_FIELD_NUMBER: _ClassVar[int]
    tool: Tool
    def __init__(self, tool: _Optional[_Union[Tool, _Mapping]] = ...) -> None: ...

class ListToolVersionsRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListToolVersionsResponse(_message.Message):
    __slots__ = ("versions",)
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[Tool]
    def __init__(self, versions: _Optional[_Iterable[_Union[Tool, _Mapping]]] = ...) -> None: ...

class ReportToolsRequest(_message.Message):
    __slots__ = ("name", "days")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DAYS_FIELD_NUMBER: _ClassVar[int]
    name: str
    days: int
    def __init__(self, name: _Optional[str] = ..., days: _Optional[int] = ...) -> None: ...

class ArgumentErrors(_message.Message):
    __slots__ = ("argument", "calls")
    ARGUMENT_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    argument: str
    calls: int
    def __init__(self, argument: _Optional[str] = ..., calls: _Optional[int] = ...) -> None: ...

class ToolQuality(_message.Message):
    __slots__ = ("name", "version", "schema_hash", "calls", "succeeded", "invalid_arguments", "failed", "timed_out", "denied", "unsettled", "p50_ms", "p95_ms", "p99_ms", "cost_micros", "argument_errors")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_HASH_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    INVALID_ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    TIMED_OUT_FIELD_NUMBER: _ClassVar[int]
    DENIED_FIELD_NUMBER: _ClassVar[int]
    UNSETTLED_FIELD_NUMBER: _ClassVar[int]
    P50_MS_FIELD_NUMBER: _ClassVar[int]
    P95_MS_FIELD_NUMBER: _ClassVar[int]
    P99_MS_FIELD_NUMBER: _ClassVar[int]
    COST_MICROS_FIELD_NUMBER: _ClassVar[int]
    ARGUMENT_ERRORS_FIELD_NUMBER: _ClassVar[int]
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
    argument_errors: _containers.RepeatedCompositeFieldContainer[ArgumentErrors]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., schema_hash: _Optional[str] = ..., calls: _Optional[int] = ..., succeeded: _Optional[int] = ..., invalid_arguments: _Optional[int] = ..., failed: _Optional[int] = ..., timed_out: _Optional[int] = ..., denied: _Optional[int] = ..., unsettled: _Optional[int] = ..., p50_ms: _Optional[float] = ..., p95_ms: _Optional[float] = ..., p99_ms: _Optional[float] = ..., cost_micros: _Optional[int] = ..., argument_errors: _Optional[_Iterable[_Union[ArgumentErrors, _Mapping]]] = ...) -> None: ...

class ReportToolsResponse(_message.Message):
    __slots__ = ("tools",)
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    tools: _containers.RepeatedCompositeFieldContainer[ToolQuality]
    def __init__(self, tools: _Optional[_Iterable[_Union[ToolQuality, _Mapping]]] = ...) -> None: ...

class GetToolRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetToolResponse(_message.Message):
    __slots__ = ("tool",)
    TOOL_FIELD_NUMBER: _ClassVar[int]
    tool: Tool
    def __init__(self, tool: _Optional[_Union[Tool, _Mapping]] = ...) -> None: ...

class ListToolsRequest(_message.Message):
    __slots__ = ("page", "enabled_only", "query", "kind", "mcp_server")
    PAGE_FIELD_NUMBER: _ClassVar[int]
    ENABLED_ONLY_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MCP_SERVER_FIELD_NUMBER: _ClassVar[int]
    page: _common_pb2.PageRequest
    enabled_only: bool
    query: str
    kind: ToolKind
    mcp_server: str
    def __init__(self, page: _Optional[_Union[_common_pb2.PageRequest, _Mapping]] = ..., enabled_only: _Optional[bool] = ..., query: _Optional[str] = ..., kind: _Optional[_Union[ToolKind, str]] = ..., mcp_server: _Optional[str] = ...) -> None: ...

class ListToolsResponse(_message.Message):
    __slots__ = ("tools", "next_page_token")
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tools: _containers.RepeatedCompositeFieldContainer[Tool]
    next_page_token: str
    def __init__(self, tools: _Optional[_Iterable[_Union[Tool, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class SetToolEnabledRequest(_message.Message):
    __slots__ = ("name", "enabled")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    name: str
    enabled: bool
    def __init__(self, name: _Optional[str] = ..., enabled: _Optional[bool] = ...) -> None: ...

class SetToolEnabledResponse(_message.Message):
    __slots__ = ("tool",)
    TOOL_FIELD_NUMBER: _ClassVar[int]
    tool: Tool
    def __init__(self, tool: _Optional[_Union[Tool, _Mapping]] = ...) -> None: ...

class DeleteToolRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteToolResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExecuteToolRequest(_message.Message):
    __slots__ = ("name", "arguments_json", "run_id", "step", "call_index", "collection_ids")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_JSON_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    CALL_INDEX_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_IDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    arguments_json: str
    run_id: str
    step: int
    call_index: int
    collection_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., arguments_json: _Optional[str] = ..., run_id: _Optional[str] = ..., step: _Optional[int] = ..., call_index: _Optional[int] = ..., collection_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ExecuteToolResponse(_message.Message):
    __slots__ = ("status", "result_json", "duration_ms", "truncated", "effect_id", "replayed", "cost_micros")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RESULT_JSON_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    EFFECT_ID_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    COST_MICROS_FIELD_NUMBER: _ClassVar[int]
    status: ExecutionStatus
    result_json: str
    duration_ms: float
    truncated: bool
    effect_id: str
    replayed: bool
    cost_micros: int
    def __init__(self, status: _Optional[_Union[ExecutionStatus, str]] = ..., result_json: _Optional[str] = ..., duration_ms: _Optional[float] = ..., truncated: _Optional[bool] = ..., effect_id: _Optional[str] = ..., replayed: _Optional[bool] = ..., cost_micros: _Optional[int] = ...) -> None: ...

class ExecuteToolStreamRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: ExecuteToolRequest
    def __init__(self, request: _Optional[_Union[ExecuteToolRequest, _Mapping]] = ...) -> None: ...

class ToolProgress(_message.Message):
    __slots__ = ("message", "done", "total", "elapsed_ms")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_MS_FIELD_NUMBER: _ClassVar[int]
    message: str
    done: float
    total: float
    elapsed_ms: float
    def __init__(self, message: _Optional[str] = ..., done: _Optional[float] = ..., total: _Optional[float] = ..., elapsed_ms: _Optional[float] = ...) -> None: ...

class ExecuteToolStreamResponse(_message.Message):
    __slots__ = ("progress", "result")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    progress: ToolProgress
    result: ExecuteToolResponse
    def __init__(self, progress: _Optional[_Union[ToolProgress, _Mapping]] = ..., result: _Optional[_Union[ExecuteToolResponse, _Mapping]] = ...) -> None: ...

class Effect(_message.Message):
    __slots__ = ("id", "run_id", "step", "call_index", "tool_name", "arguments_hash", "state", "status", "created_at", "completed_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    CALL_INDEX_FIELD_NUMBER: _ClassVar[int]
    TOOL_NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_HASH_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    run_id: str
    step: int
    call_index: int
    tool_name: str
    arguments_hash: str
    state: EffectState
    status: ExecutionStatus
    created_at: _timestamp_pb2.Timestamp
    completed_at: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., run_id: _Optional[str] = ..., step: _Optional[int] = ..., call_index: _Optional[int] = ..., tool_name: _Optional[str] = ..., arguments_hash: _Optional[str] = ..., state: _Optional[_Union[EffectState, str]] = ..., status: _Optional[_Union[ExecutionStatus, str]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., completed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListEffectsRequest(_message.Message):
    __slots__ = ("page", "run_id", "state")
    PAGE_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    page: _common_pb2.PageRequest
    run_id: str
    state: EffectState
    def __init__(self, page: _Optional[_Union[_common_pb2.PageRequest, _Mapping]] = ..., run_id: _Optional[str] = ..., state: _Optional[_Union[EffectState, str]] = ...) -> None: ...

class ListEffectsResponse(_message.Message):
    __slots__ = ("effects", "next_page_token")
    EFFECTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    effects: _containers.RepeatedCompositeFieldContainer[Effect]
    next_page_token: str
    def __init__(self, effects: _Optional[_Iterable[_Union[Effect, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class SettleEffectRequest(_message.Message):
    __slots__ = ("effect_id", "result_json")
    EFFECT_ID_FIELD_NUMBER: _ClassVar[int]
    RESULT_JSON_FIELD_NUMBER: _ClassVar[int]
    effect_id: str
    result_json: str
    def __init__(self, effect_id: _Optional[str] = ..., result_json: _Optional[str] = ...) -> None: ...

class SettleEffectResponse(_message.Message):
    __slots__ = ("effect",)
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    effect: Effect
    def __init__(self, effect: _Optional[_Union[Effect, _Mapping]] = ...) -> None: ...

class Secret(_message.Message):
    __slots__ = ("name", "hosts", "updated_at")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    name: str
    hosts: _containers.RepeatedScalarFieldContainer[str]
    updated_at: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., hosts: _Optional[_Iterable[str]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class PutSecretRequest(_message.Message):
    __slots__ = ("name", "value", "hosts")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    hosts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ..., hosts: _Optional[_Iterable[str]] = ...) -> None: ...

class PutSecretResponse(_message.Message):
    __slots__ = ("secret",)
    SECRET_FIELD_NUMBER: _ClassVar[int]
    secret: Secret
    def __init__(self, secret: _Optional[_Union[Secret, _Mapping]] = ...) -> None: ...

class ListSecretsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSecretsResponse(_message.Message):
    __slots__ = ("secrets",)
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    secrets: _containers.RepeatedCompositeFieldContainer[Secret]
    def __init__(self, secrets: _Optional[_Iterable[_Union[Secret, _Mapping]]] = ...) -> None: ...

class DeleteSecretRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteSecretResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ImportOpenApiRequest(_message.Message):
    __slots__ = ("document", "name_prefix", "base_url", "auth", "side_effect", "policy", "replace", "dry_run")
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    NAME_PREFIX_FIELD_NUMBER: _ClassVar[int]
    BASE_URL_FIELD_NUMBER: _ClassVar[int]
    AUTH_FIELD_NUMBER: _ClassVar[int]
    SIDE_EFFECT_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    document: str
    name_prefix: str
    base_url: str
    auth: HttpAuth
    side_effect: SideEffect
    policy: ToolPolicy
    replace: bool
    dry_run: bool
    def __init__(self, document: _Optional[str] = ..., name_prefix: _Optional[str] = ..., base_url: _Optional[str] = ..., auth: _Optional[_Union[HttpAuth, _Mapping]] = ..., side_effect: _Optional[_Union[SideEffect, str]] = ..., policy: _Optional[_Union[ToolPolicy, str]] = ..., replace: _Optional[bool] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class SkippedOperation(_message.Message):
    __slots__ = ("operation", "reason")
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    operation: str
    reason: str
    def __init__(self, operation: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ImportOpenApiResponse(_message.Message):
    __slots__ = ("tools", "skipped")
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    tools: _containers.RepeatedCompositeFieldContainer[Tool]
    skipped: _containers.RepeatedCompositeFieldContainer[SkippedOperation]
    def __init__(self, tools: _Optional[_Iterable[_Union[Tool, _Mapping]]] = ..., skipped: _Optional[_Iterable[_Union[SkippedOperation, _Mapping]]] = ...) -> None: ...

class McpServer(_message.Message):
    __slots__ = ("name", "url", "stdio", "auth", "side_effect", "policy", "timeout_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    STDIO_FIELD_NUMBER: _ClassVar[int]
    AUTH_FIELD_NUMBER: _ClassVar[int]
    SIDE_EFFECT_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    url: str
    stdio: str
    auth: HttpAuth
    side_effect: SideEffect
    policy: ToolPolicy
    timeout_ms: int
    def __init__(self, name: _Optional[str] = ..., url: _Optional[str] = ..., stdio: _Optional[str] = ..., auth: _Optional[_Union[HttpAuth, _Mapping]] = ..., side_effect: _Optional[_Union[SideEffect, str]] = ..., policy: _Optional[_Union[ToolPolicy, str]] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class RegisterMcpServerRequest(_message.Message):
    __slots__ = ("server",)
    SERVER_FIELD_NUMBER: _ClassVar[int]
    server: McpServer
    def __init__(self, server: _Optional[_Union[McpServer, _Mapping]] = ...) -> None: ...

class RegisterMcpServerResponse(_message.Message):
    __slots__ = ("server", "tools", "skipped")
    SERVER_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    server: McpServer
    tools: _containers.RepeatedCompositeFieldContainer[Tool]
    skipped: _containers.RepeatedCompositeFieldContainer[SkippedOperation]
    def __init__(self, server: _Optional[_Union[McpServer, _Mapping]] = ..., tools: _Optional[_Iterable[_Union[Tool, _Mapping]]] = ..., skipped: _Optional[_Iterable[_Union[SkippedOperation, _Mapping]]] = ...) -> None: ...

class ListMcpServersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListMcpServersResponse(_message.Message):
    __slots__ = ("servers",)
    SERVERS_FIELD_NUMBER: _ClassVar[int]
    servers: _containers.RepeatedCompositeFieldContainer[McpServer]
    def __init__(self, servers: _Optional[_Iterable[_Union[McpServer, _Mapping]]] = ...) -> None: ...

class DeleteMcpServerRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteMcpServerResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SyncMcpServerRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class SyncMcpServerResponse(_message.Message):
    __slots__ = ("held", "unchanged", "removed", "skipped")
    HELD_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    held: _containers.RepeatedCompositeFieldContainer[Tool]
    unchanged: _containers.RepeatedScalarFieldContainer[str]
    removed: _containers.RepeatedScalarFieldContainer[str]
    skipped: _containers.RepeatedCompositeFieldContainer[SkippedOperation]
    def __init__(self, held: _Optional[_Iterable[_Union[Tool, _Mapping]]] = ..., unchanged: _Optional[_Iterable[str]] = ..., removed: _Optional[_Iterable[str]] = ..., skipped: _Optional[_Iterable[_Union[SkippedOperation, _Mapping]]] = ...) -> None: ...

class ApproveToolRequest(_message.Message):
    __slots__ = ("name", "schema_hash")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_HASH_FIELD_NUMBER: _ClassVar[int]
    name: str
    schema_hash: str
    def __init__(self, name: _Optional[str] = ..., schema_hash: _Optional[str] = ...) -> None: ...

class ApproveToolResponse(_message.Message):
    __slots__ = ("tool",)
    TOOL_FIELD_NUMBER: _ClassVar[int]
    tool: Tool
    def __init__(self, tool: _Optional[_Union[Tool, _Mapping]] = ...) -> None: ...

class LintToolRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class LintFinding(_message.Message):
    __slots__ = ("rule", "argument", "message")
    RULE_FIELD_NUMBER: _ClassVar[int]
    ARGUMENT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    rule: str
    argument: str
    message: str
    def __init__(self, rule: _Optional[str] = ..., argument: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class LintToolResponse(_message.Message):
    __slots__ = ("score", "findings")
    SCORE_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    score: int
    findings: _containers.RepeatedCompositeFieldContainer[LintFinding]
    def __init__(self, score: _Optional[int] = ..., findings: _Optional[_Iterable[_Union[LintFinding, _Mapping]]] = ...) -> None: ...

class EraseTenantRequest(_message.Message):
    __slots__ = ("tenant_id",)
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    tenant_id: str
    def __init__(self, tenant_id: _Optional[str] = ...) -> None: ...

class EraseTenantResponse(_message.Message):
    __slots__ = ("erased",)
    class ErasedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ERASED_FIELD_NUMBER: _ClassVar[int]
    erased: _containers.ScalarMap[str, int]
    def __init__(self, erased: _Optional[_Mapping[str, int]] = ...) -> None: ...
