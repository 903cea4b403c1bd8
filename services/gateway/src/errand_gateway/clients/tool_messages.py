"""Between the tools service's messages and the gateway's resources."""

from typing import Any, Final

from errand.tools.v1 import tools_pb2 as pb

from errand_gateway.clients import conversion as convert
from errand_gateway.domain import tool_resources as t

_SCHEME: Final = "HTTP_AUTH_SCHEME_"


def tool(message: pb.Tool) -> t.Tool:
    """A tool."""
    return t.Tool(
        name=message.name,
        description=message.description,
        parameters=convert.json_object(message.parameters_json) or {},
        kind=convert.enum_or(t.ToolKind, pb.ToolKind, message.kind, "TOOL_KIND_", t.ToolKind.UNKNOWN),
        enabled=message.enabled,
        timeout_ms=message.timeout_ms,
        side_effect=_side_effect(message.side_effect),
        policy=_policy(message.policy),
        http=_http(message.http) if message.HasField("http") else None,
        reconcile_tool=message.reconcile_tool,
        schema_hash=message.schema_hash,
        mcp_server=message.mcp_server,
        offer=_offer(message.offer) if message.HasField("offer") else None,
        grpc=_grpc(message.grpc) if message.HasField("grpc") else None,
        wasm=t.WasmBinding(message.wasm.sha256, message.wasm.memory_mib) if message.HasField("wasm") else None,
        python=t.PythonBinding(message.python.code) if message.HasField("python") else None,
        limits=t.ToolLimits(message.limits.calls_per_minute, message.limits.concurrent_calls),
        cost_micros=message.cost_micros,
        role_policies={one.role: _policy(one.policy) for one in message.role_policies},
        effective_policy=_policy(message.effective_policy or message.policy),
        result_schema=convert.json_object(message.result_schema_json),
        examples=[convert.json_object(text) or {} for text in message.examples_json],
        retry=convert.enum_or(t.RetryClass, pb.RetryClass, message.retry, "RETRY_CLASS_", t.RetryClass.NEVER),
        version=message.version,
        updated_at=convert.moment(message, "updated_at"),
    )


def tool_message(resource: t.Tool, module: bytes = b"") -> pb.Tool:
    """The same as a message, with a WebAssembly tool's module."""
    message = pb.Tool(
        name=resource.name,
        description=resource.description,
        parameters_json=convert.json_text(resource.parameters),
        timeout_ms=resource.timeout_ms,
        side_effect=side_effect_number(resource.side_effect),
        policy=policy_number(resource.policy),
        reconcile_tool=resource.reconcile_tool,
        http=_http_message(resource.http) if resource.http else None,
        grpc=_grpc_message(resource.grpc) if resource.grpc else None,
        wasm=pb.WasmBinding(module=module, memory_mib=resource.wasm.memory_mib) if resource.wasm else None,
        python=pb.PythonBinding(code=resource.python.code) if resource.python else None,
        limits=pb.ToolLimits(
            calls_per_minute=resource.limits.calls_per_minute, concurrent_calls=resource.limits.concurrent_calls
        ),
        cost_micros=resource.cost_micros,
        role_policies=[
            pb.RolePolicy(role=role, policy=policy_number(policy)) for role, policy in resource.role_policies.items()
        ],
        result_schema_json=convert.json_text(resource.result_schema) if resource.result_schema else "",
        examples_json=[convert.json_text(example) for example in resource.examples],
        retry=convert.enum_number(pb.RetryClass, "RETRY_CLASS_", resource.retry),
    )
    if resource.grpc is not None:
        # The server's reflection gives them.
        message.parameters_json = ""
    return message


def quality(message: pb.ToolQuality) -> t.ToolQuality:
    """How calls of one version of a tool ended."""
    return t.ToolQuality(
        name=message.name,
        version=message.version,
        schema_hash=message.schema_hash,
        calls=message.calls,
        succeeded=message.succeeded,
        invalid_arguments=message.invalid_arguments,
        failed=message.failed,
        timed_out=message.timed_out,
        denied=message.denied,
        unsettled=message.unsettled,
        p50_ms=message.p50_ms,
        p95_ms=message.p95_ms,
        p99_ms=message.p99_ms,
        cost_micros=message.cost_micros,
        argument_errors=[t.ArgumentErrors(one.argument, one.calls) for one in message.argument_errors],
    )


def side_effect_number(side_effect: t.SideEffect) -> Any:
    """A side effect's number."""
    return convert.enum_number(pb.SideEffect, "SIDE_EFFECT_", side_effect)


def policy_number(policy: t.ToolPolicy) -> Any:
    """A policy's number."""
    return convert.enum_number(pb.ToolPolicy, "TOOL_POLICY_", policy)


def auth_message(auth: t.ToolAuth | None) -> pb.HttpAuth | None:
    """A reference to a secret; None for none."""
    if auth is None:
        return None
    scheme = convert.enum_number(pb.HttpAuthScheme, _SCHEME, auth.scheme)
    return pb.HttpAuth(
        scheme=scheme,
        secret=auth.secret,
        header=auth.header,
        token_url=auth.token_url,
        client_id=auth.client_id,
        scope=auth.scope,
    )


def rating(message: pb.LintToolResponse) -> t.ToolRating:
    """How well a small model can use a tool."""
    findings = [t.LintFinding(one.rule, one.argument, one.message) for one in message.findings]
    return t.ToolRating(message.score, findings)


def result(message: pb.ExecuteToolResponse) -> t.ToolResult:
    """What a call gave."""
    return t.ToolResult(
        status=convert.enum_or(
            t.ExecutionStatus, pb.ExecutionStatus, message.status, "EXECUTION_STATUS_", t.ExecutionStatus.FAILED
        ),
        result=convert.json_value(message.result_json),
        duration_ms=message.duration_ms,
        truncated=message.truncated,
        effect_id=message.effect_id,
        replayed=message.replayed,
        cost_micros=message.cost_micros,
    )


def import_message(order: t.ToolImport) -> pb.ImportOpenApiRequest:
    """An order to import a document."""
    return pb.ImportOpenApiRequest(
        document=order.document,
        name_prefix=order.name_prefix,
        base_url=order.base_url,
        auth=auth_message(order.auth),
        side_effect=side_effect_number(order.side_effect),
        policy=policy_number(order.policy),
        replace=order.replace,
        dry_run=order.dry_run,
    )


def imported(message: pb.ImportOpenApiResponse) -> t.Imported:
    """What an import gave."""
    return t.Imported([tool(item) for item in message.tools], _skipped(message))


def secret(message: pb.Secret) -> t.Secret:
    """A secret, which has no value here."""
    return t.Secret(message.name, tuple(message.hosts), convert.moment(message, "updated_at"))


def server(message: pb.McpServer) -> t.McpServer:
    """An MCP server."""
    return t.McpServer(
        name=message.name,
        url=message.url,
        stdio=message.stdio,
        auth=_auth(message),
        side_effect=_side_effect(message.side_effect),
        policy=_policy(message.policy),
        timeout_ms=message.timeout_ms,
    )


def server_message(resource: t.McpServer) -> pb.McpServer:
    """The same as a message."""
    return pb.McpServer(
        name=resource.name,
        url=resource.url,
        stdio=resource.stdio,
        auth=auth_message(resource.auth),
        side_effect=side_effect_number(resource.side_effect),
        policy=policy_number(resource.policy),
        timeout_ms=resource.timeout_ms,
    )


def registered(message: pb.RegisterMcpServerResponse) -> t.RegisteredMcpServer:
    """A server that was registered."""
    tools = [tool(item) for item in message.tools]
    return t.RegisteredMcpServer(server(message.server), tools, _skipped(message))


def synced(message: pb.SyncMcpServerResponse) -> t.SyncedMcpServer:
    """What is new at a server."""
    held = [tool(item) for item in message.held]
    return t.SyncedMcpServer(held, list(message.unchanged), list(message.removed), _skipped(message))


def effect(message: pb.Effect) -> t.Effect:
    """An entry of the ledger."""
    return t.Effect(
        id=message.id,
        run_id=message.run_id,
        step=message.step,
        call_index=message.call_index,
        tool_name=message.tool_name,
        arguments_hash=message.arguments_hash,
        state=convert.enum_or(t.EffectState, pb.EffectState, message.state, "EFFECT_STATE_", t.EffectState.DISPATCHED),
        status=convert.enum_or_none(t.ExecutionStatus, pb.ExecutionStatus, message.status, "EXECUTION_STATUS_"),
        created_at=convert.moment(message, "created_at"),
        completed_at=convert.moment(message, "completed_at"),
    )


def _side_effect(number: int) -> t.SideEffect:
    return convert.enum_or(t.SideEffect, pb.SideEffect, number, "SIDE_EFFECT_", t.SideEffect.ASK)


def _policy(number: int) -> t.ToolPolicy:
    return convert.enum_or(t.ToolPolicy, pb.ToolPolicy, number, "TOOL_POLICY_", t.ToolPolicy.AUTO)


def _http(message: pb.HttpBinding) -> t.HttpBinding:
    return t.HttpBinding(
        t.HttpMethod(message.method),
        message.url_template,
        auth=_auth(message),
        query_arguments=tuple(message.query_arguments),
        body_argument=message.body_argument,
        body_template=convert.json_value(message.body_template_json),
    )


def _http_message(http: t.HttpBinding) -> pb.HttpBinding:
    return pb.HttpBinding(
        method=http.method.value,
        url_template=http.url_template,
        auth=auth_message(http.auth),
        query_arguments=http.query_arguments,
        body_argument=http.body_argument,
        body_template_json="" if http.body_template is None else convert.json_text(http.body_template),
    )


def _grpc(message: pb.GrpcBinding) -> t.GrpcBinding:
    return t.GrpcBinding(message.target, message.method, message.plaintext, _auth(message))


def _grpc_message(grpc: t.GrpcBinding) -> pb.GrpcBinding:
    auth = auth_message(grpc.auth)
    return pb.GrpcBinding(target=grpc.target, method=grpc.method, plaintext=grpc.plaintext, auth=auth)


def _offer(message: pb.ToolOffer) -> t.ToolOffer:
    parameters = convert.json_object(message.parameters_json) or {}
    return t.ToolOffer(message.description, parameters, message.schema_hash)


def _auth(message: Any) -> t.ToolAuth | None:
    if not message.HasField("auth"):
        return None
    auth: pb.HttpAuth = message.auth
    scheme = convert.enum_or(t.AuthScheme, pb.HttpAuthScheme, auth.scheme, _SCHEME, t.AuthScheme.BEARER)
    return t.ToolAuth(scheme, auth.secret, auth.header, auth.token_url, auth.client_id, auth.scope)


def _skipped(message: Any) -> list[t.SkippedOperation]:
    return [t.SkippedOperation(one.operation, one.reason) for one in message.skipped]
