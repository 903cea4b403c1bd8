"""Between protobuf messages and the domain's types."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime

from errand.common.v1 import common_pb2
from errand.tools.v1 import tools_pb2
from errand_common.db import decode_page_token, encode_page_token
from errand_common.errors import InvalidArgument
from google.protobuf.timestamp_pb2 import Timestamp

from errand_tools.domain.access import effective_policy
from errand_tools.domain.effects import (
    CallPosition,
    Effect,
    EffectFilter,
    EffectState,
    parse_cursor,
)
from errand_tools.domain.execution import Call
from errand_tools.domain.lint import Rating
from errand_tools.domain.openapi import ImportOptions, Operations, Skipped
from errand_tools.domain.ports import Page, ToolFilter
from errand_tools.domain.progress import Progress
from errand_tools.domain.schema import parse_parameters, parse_result_schema
from errand_tools.domain.secrets import Secret
from errand_tools.domain.tools import (
    DEFAULT_MEMORY_MIB,
    AuthScheme,
    ExecutionStatus,
    GrpcBinding,
    HttpAuth,
    HttpBinding,
    Offer,
    Outcome,
    PythonBinding,
    RetryClass,
    SideEffect,
    Tool,
    ToolKind,
    ToolLimits,
    ToolPolicy,
    WasmBinding,
)
from errand_tools.domain.usage import ToolQuality

_DEFAULT_PAGE_SIZE = 50

_SIDE_EFFECTS: Mapping[SideEffect, tools_pb2.SideEffect] = {
    SideEffect.NONE: tools_pb2.SIDE_EFFECT_NONE,
    SideEffect.IDEMPOTENT: tools_pb2.SIDE_EFFECT_IDEMPOTENT,
    SideEffect.RECONCILE: tools_pb2.SIDE_EFFECT_RECONCILE,
    SideEffect.ASK: tools_pb2.SIDE_EFFECT_ASK,
}
_POLICIES: Mapping[ToolPolicy, tools_pb2.ToolPolicy] = {
    ToolPolicy.AUTO: tools_pb2.TOOL_POLICY_AUTO,
    ToolPolicy.ASK: tools_pb2.TOOL_POLICY_ASK,
    ToolPolicy.DENY: tools_pb2.TOOL_POLICY_DENY,
}
_RETRIES: Mapping[RetryClass, tools_pb2.RetryClass] = {
    RetryClass.NEVER: tools_pb2.RETRY_CLASS_NEVER,
    RetryClass.TRANSIENT: tools_pb2.RETRY_CLASS_TRANSIENT,
}
_KINDS: Mapping[ToolKind, tools_pb2.ToolKind] = {
    ToolKind.BUILTIN: tools_pb2.TOOL_KIND_BUILTIN,
    ToolKind.HTTP: tools_pb2.TOOL_KIND_HTTP,
    ToolKind.MCP: tools_pb2.TOOL_KIND_MCP,
    ToolKind.GRPC: tools_pb2.TOOL_KIND_GRPC,
    ToolKind.WASM: tools_pb2.TOOL_KIND_WASM,
    ToolKind.PYTHON: tools_pb2.TOOL_KIND_PYTHON,
}
_STATUSES: Mapping[ExecutionStatus, tools_pb2.ExecutionStatus] = {
    ExecutionStatus.SUCCEEDED: tools_pb2.EXECUTION_STATUS_SUCCEEDED,
    ExecutionStatus.INVALID_ARGUMENTS: tools_pb2.EXECUTION_STATUS_INVALID_ARGUMENTS,
    ExecutionStatus.FAILED: tools_pb2.EXECUTION_STATUS_FAILED,
    ExecutionStatus.TIMED_OUT: tools_pb2.EXECUTION_STATUS_TIMED_OUT,
    ExecutionStatus.DENIED: tools_pb2.EXECUTION_STATUS_DENIED,
    ExecutionStatus.UNKNOWN_TOOL: tools_pb2.EXECUTION_STATUS_UNKNOWN_TOOL,
    ExecutionStatus.UNSETTLED: tools_pb2.EXECUTION_STATUS_UNSETTLED,
}
_STATES: Mapping[EffectState, tools_pb2.EffectState] = {
    EffectState.DISPATCHED: tools_pb2.EFFECT_STATE_DISPATCHED,
    EffectState.COMPLETED: tools_pb2.EFFECT_STATE_COMPLETED,
    EffectState.UNSETTLED: tools_pb2.EFFECT_STATE_UNSETTLED,
}
_SCHEMES: Mapping[AuthScheme, tools_pb2.HttpAuthScheme] = {
    AuthScheme.BEARER: tools_pb2.HTTP_AUTH_SCHEME_BEARER,
    AuthScheme.BASIC: tools_pb2.HTTP_AUTH_SCHEME_BASIC,
    AuthScheme.HEADER: tools_pb2.HTTP_AUTH_SCHEME_HEADER,
    AuthScheme.CLIENT_CREDENTIALS: tools_pb2.HTTP_AUTH_SCHEME_CLIENT_CREDENTIALS,
}
_SCHEME_OF = {number: value for value, number in _SCHEMES.items()}
_SIDE_EFFECT_OF = {number: value for value, number in _SIDE_EFFECTS.items()}
_POLICY_OF = {number: value for value, number in _POLICIES.items()}
_RETRY_OF = {number: value for value, number in _RETRIES.items()}
_KIND_OF = {number: value for value, number in _KINDS.items()}
_STATE_OF = {number: value for value, number in _STATES.items()}


def tool_from_proto(message: tools_pb2.Tool) -> Tool:
    """The tool a request describes. Raises InvalidArgument."""
    side_effect = _SIDE_EFFECT_OF.get(message.side_effect)
    if side_effect is None:
        raise InvalidArgument(
            "side_effect is required: say what a call changes, SIDE_EFFECT_NONE if nothing",
            field="tool.side_effect",
            rule="required",
        )
    # A gRPC server tells its arguments itself.
    given = message.parameters_json or ('{"type": "object"}' if message.HasField("grpc") else "")
    return Tool(
        name=message.name,
        description=message.description,
        parameters=parse_parameters(given),
        timeout_ms=message.timeout_ms,
        side_effect=side_effect,
        policy=_POLICY_OF.get(message.policy, ToolPolicy.AUTO),
        http=_http_from_proto(message.http) if message.HasField("http") else None,
        grpc=_grpc_from_proto(message.grpc) if message.HasField("grpc") else None,
        wasm=WasmBinding("", message.wasm.memory_mib or DEFAULT_MEMORY_MIB) if message.HasField("wasm") else None,
        python=PythonBinding(message.python.code) if message.HasField("python") else None,
        reconcile_tool=message.reconcile_tool,
        limits=ToolLimits(message.limits.calls_per_minute, message.limits.concurrent_calls),
        cost_micros=message.cost_micros,
        role_policies=_role_policies_from_proto(message),
        result_schema=parse_result_schema(message.result_schema_json) if message.result_schema_json else None,
        examples=tuple(message.examples_json),
        retry=_RETRY_OF.get(message.retry, RetryClass.NEVER),
    )


def _role_policies_from_proto(message: tools_pb2.Tool) -> tuple[tuple[str, ToolPolicy], ...]:
    policies = {one.role: _POLICY_OF[one.policy] for one in message.role_policies}
    if len(policies) != len(message.role_policies):
        raise InvalidArgument("role_policies names a role twice", field="tool.role_policies", rule="unique")
    return tuple(policies.items())


def _grpc_from_proto(message: tools_pb2.GrpcBinding) -> GrpcBinding:
    auth = auth_from_proto(message.auth) if message.HasField("auth") else None
    return GrpcBinding(message.target, message.method, message.plaintext, auth)


def _http_from_proto(message: tools_pb2.HttpBinding) -> HttpBinding:
    return HttpBinding(
        message.method,
        message.url_template,
        auth=auth_from_proto(message.auth) if message.HasField("auth") else None,
        query_arguments=tuple(message.query_arguments),
        body_argument=message.body_argument,
        body_template=message.body_template_json,
    )


def auth_from_proto(message: tools_pb2.HttpAuth) -> HttpAuth:
    """How a request says that calls prove who they are."""
    return HttpAuth(
        _SCHEME_OF[message.scheme],
        message.secret,
        message.header,
        token_url=message.token_url,
        client_id=message.client_id,
        scope=message.scope,
    )


def auth_to_proto(auth: HttpAuth) -> tools_pb2.HttpAuth:
    """The reference to a secret as a message."""
    return tools_pb2.HttpAuth(
        scheme=_SCHEMES[auth.scheme],
        secret=auth.secret,
        header=auth.header,
        token_url=auth.token_url,
        client_id=auth.client_id,
        scope=auth.scope,
    )


def _http_to_proto(http: HttpBinding) -> tools_pb2.HttpBinding:
    return tools_pb2.HttpBinding(
        method=http.method,
        url_template=http.url_template,
        auth=auth_to_proto(http.auth) if http.auth else None,
        query_arguments=http.query_arguments,
        body_argument=http.body_argument,
        body_template_json=http.body_template,
    )


def secret_to_proto(secret: Secret) -> tools_pb2.Secret:
    """The secret as a message, which has no place for its value."""
    return tools_pb2.Secret(name=secret.name, hosts=secret.hosts, updated_at=_timestamp(secret.updated_at))


def tool_to_proto(tool: Tool, roles: frozenset[str]) -> tools_pb2.Tool:
    """The tool as a message for a caller of these roles."""
    rules = [tools_pb2.RolePolicy(role=role, policy=_POLICIES[policy]) for role, policy in tool.role_policies]
    limits = tools_pb2.ToolLimits(
        calls_per_minute=tool.limits.calls_per_minute, concurrent_calls=tool.limits.concurrent_calls
    )
    return tools_pb2.Tool(
        name=tool.name,
        description=tool.description,
        parameters_json=tool.parameters_json,
        timeout_ms=tool.timeout_ms,
        side_effect=_SIDE_EFFECTS[tool.side_effect],
        policy=_POLICIES[tool.policy],
        http=_http_to_proto(tool.http) if tool.http else None,
        kind=_KINDS[tool.kind],
        enabled=tool.enabled,
        schema_hash=tool.schema_hash,
        reconcile_tool=tool.reconcile_tool,
        mcp_server=tool.mcp.server if tool.mcp else "",
        offer=_offer_to_proto(tool.offer) if tool.offer else None,
        grpc=_grpc_to_proto(tool.grpc) if tool.grpc else None,
        wasm=_wasm_to_proto(tool.wasm) if tool.wasm else None,
        python=tools_pb2.PythonBinding(code=tool.python.code) if tool.python else None,
        result_schema_json=json.dumps(tool.result_schema, ensure_ascii=False) if tool.result_schema else "",
        examples_json=tool.examples,
        retry=_RETRIES[tool.retry],
        version=tool.version,
        limits=limits if tool.limits != ToolLimits() else None,
        cost_micros=tool.cost_micros,
        role_policies=rules,
        effective_policy=_POLICIES[effective_policy(tool, roles)],
        updated_at=_timestamp(tool.updated_at) if tool.updated_at else None,
    )


def _grpc_to_proto(grpc: GrpcBinding) -> tools_pb2.GrpcBinding:
    return tools_pb2.GrpcBinding(
        target=grpc.target,
        method=grpc.method,
        plaintext=grpc.plaintext,
        auth=auth_to_proto(grpc.auth) if grpc.auth else None,
    )


def _wasm_to_proto(wasm: WasmBinding) -> tools_pb2.WasmBinding:
    return tools_pb2.WasmBinding(sha256=wasm.artifact, memory_mib=wasm.memory_mib)


def _offer_to_proto(offer: Offer) -> tools_pb2.ToolOffer:
    parameters = json.dumps(offer.parameters, ensure_ascii=False)
    return tools_pb2.ToolOffer(description=offer.description, parameters_json=parameters, schema_hash=offer.hash)


def import_options_from_proto(message: tools_pb2.ImportOpenApiRequest) -> ImportOptions:
    """What an import adds to its document; what changes something asks a person unless the request says else."""
    return ImportOptions(
        name_prefix=message.name_prefix,
        base_url=message.base_url,
        auth=auth_from_proto(message.auth) if message.HasField("auth") else None,
        side_effect=_SIDE_EFFECT_OF.get(message.side_effect, SideEffect.ASK),
        policy=_POLICY_OF.get(message.policy, ToolPolicy.ASK),
    )


def operations_to_proto(found: Operations, roles: frozenset[str]) -> tools_pb2.ImportOpenApiResponse:
    """What an import gave."""
    return tools_pb2.ImportOpenApiResponse(
        tools=[tool_to_proto(tool, roles) for tool in found.tools],
        skipped=skipped_to_proto(found.skipped),
    )


def skipped_to_proto(skipped: Iterable[Skipped]) -> list[tools_pb2.SkippedOperation]:
    """What was left out, and why."""
    return [tools_pb2.SkippedOperation(operation=one.operation, reason=one.reason) for one in skipped]


def side_effect_of(number: tools_pb2.SideEffect, default: SideEffect) -> SideEffect:
    """The side effect a request names, or the default."""
    return _SIDE_EFFECT_OF.get(number, default)


def policy_of(number: tools_pb2.ToolPolicy, default: ToolPolicy) -> ToolPolicy:
    """The policy a request names, or the default."""
    return _POLICY_OF.get(number, default)


def side_effect_to_proto(side_effect: SideEffect) -> tools_pb2.SideEffect:
    """The side effect as a message has it."""
    return _SIDE_EFFECTS[side_effect]


def policy_to_proto(policy: ToolPolicy) -> tools_pb2.ToolPolicy:
    """The policy as a message has it."""
    return _POLICIES[policy]


def rating_to_proto(rating: Rating) -> tools_pb2.LintToolResponse:
    """A tool's rating as a message."""
    findings = [
        tools_pb2.LintFinding(rule=one.rule, argument=one.argument, message=one.message) for one in rating.findings
    ]
    return tools_pb2.LintToolResponse(score=rating.score, findings=findings)


def quality_to_proto(row: ToolQuality) -> tools_pb2.ToolQuality:
    """How calls of a version ended, as a message."""
    return tools_pb2.ToolQuality(
        name=row.name,
        version=row.version,
        schema_hash=row.schema_hash,
        calls=row.calls,
        succeeded=row.by_status.get(ExecutionStatus.SUCCEEDED, 0),
        invalid_arguments=row.by_status.get(ExecutionStatus.INVALID_ARGUMENTS, 0),
        failed=row.by_status.get(ExecutionStatus.FAILED, 0),
        timed_out=row.by_status.get(ExecutionStatus.TIMED_OUT, 0),
        denied=row.by_status.get(ExecutionStatus.DENIED, 0),
        unsettled=row.by_status.get(ExecutionStatus.UNSETTLED, 0),
        p50_ms=row.p50_ms,
        p95_ms=row.p95_ms,
        p99_ms=row.p99_ms,
        cost_micros=row.cost_micros,
        argument_errors=[
            tools_pb2.ArgumentErrors(argument=argument, calls=calls) for argument, calls in row.argument_errors
        ],
    )


def tool_filter_from_proto(message: tools_pb2.ListToolsRequest) -> ToolFilter:
    """Which tools a request wants."""
    words = tuple(message.query.lower().split())
    return ToolFilter(message.enabled_only, words, _KIND_OF.get(message.kind), message.mcp_server)


def call_from_proto(message: tools_pb2.ExecuteToolRequest, roles: frozenset[str]) -> Call:
    """The call a request asks for."""
    return Call(
        name=message.name,
        arguments_json=message.arguments_json,
        position=CallPosition(message.run_id, message.step, message.call_index),
        collection_ids=tuple(message.collection_ids),
        roles=roles,
    )


def progress_to_proto(progress: Progress) -> tools_pb2.ToolProgress:
    """The progress as a message."""
    return tools_pb2.ToolProgress(
        message=progress.message, done=progress.done, total=progress.total, elapsed_ms=progress.elapsed_ms
    )


def outcome_to_proto(outcome: Outcome) -> tools_pb2.ExecuteToolResponse:
    """The outcome as a message."""
    return tools_pb2.ExecuteToolResponse(
        status=_STATUSES[outcome.status],
        result_json=outcome.result_json,
        duration_ms=outcome.duration_ms,
        truncated=outcome.truncated,
        effect_id=outcome.effect_id,
        replayed=outcome.replayed,
        cost_micros=outcome.cost_micros,
    )


def effect_to_proto(effect: Effect) -> tools_pb2.Effect:
    """The ledger's entry as a message."""
    status = tools_pb2.EXECUTION_STATUS_UNSPECIFIED
    if effect.outcome is not None:
        status = _STATUSES[effect.outcome.status]
    return tools_pb2.Effect(
        id=effect.id,
        run_id=effect.position.run_id,
        step=effect.position.step,
        call_index=effect.position.call_index,
        tool_name=effect.tool_name,
        arguments_hash=effect.arguments_hash,
        state=_STATES[effect.state],
        status=status,
        created_at=_timestamp(effect.created_at),
        completed_at=_timestamp(effect.completed_at) if effect.completed_at else None,
    )


def filter_from_proto(message: tools_pb2.ListEffectsRequest) -> EffectFilter:
    """Which effects a request wants."""
    return EffectFilter(message.run_id, _STATE_OF.get(message.state))


def page_from_proto(message: common_pb2.PageRequest) -> Page:
    """The page a request wants. Raises InvalidArgument for a token that is none of ours."""
    size = message.page_size or _DEFAULT_PAGE_SIZE
    values = decode_page_token(message.page_token, length=1)
    return Page(size, str(values[0]) if values else "")


def effects_page_from_proto(message: common_pb2.PageRequest) -> Page:
    """The same for effects, whose cursor has a form of its own."""
    page = page_from_proto(message)
    if page.after:
        try:
            parse_cursor(page.after)
        except ValueError:
            raise InvalidArgument(
                "page_token is not one this listing gave; leave it out to start anew.",
                field="page_token",
            ) from None
    return page


def page_token(cursor: str) -> str:
    """The opaque token of a cursor; empty for none."""
    return encode_page_token([cursor]) if cursor else ""


def _timestamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp
