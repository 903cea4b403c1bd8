"""Between tools and what the database keeps of them."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from errand_tools.domain.tools import (
    AuthScheme,
    GrpcBinding,
    HttpAuth,
    HttpBinding,
    McpBinding,
    Offer,
    PythonBinding,
    RetryClass,
    SideEffect,
    Tool,
    ToolKind,
    ToolLimits,
    ToolPolicy,
    WasmBinding,
)


def to_columns(tool: Tool) -> dict[str, Any]:
    """The columns of a tool's row, all but its tenant, as JSON can hold them; `created_at` is of the version."""
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters_json": tool.parameters_json,
        "timeout_ms": tool.timeout_ms,
        "side_effect": tool.side_effect.value,
        "policy": tool.policy.value,
        "method": tool.http.method if tool.http else "",
        "url_template": tool.http.url_template if tool.http else "",
        "reconcile_tool": tool.reconcile_tool,
        "enabled": tool.enabled,
        "schema_hash": tool.schema_hash,
        "created_at": (tool.updated_at or datetime.now(UTC)).isoformat(),
        "kind": tool.kind.value,
        "binding_json": json.dumps(_binding(tool)),
        "offer_json": json.dumps(asdict(tool.offer)) if tool.offer else "",
        "version": tool.version,
        "rules_json": json.dumps(_rules(tool)),
        "artifact": tool.artifact,
    }


def from_columns(row: Any) -> Tool:
    """The tool of a row, or of a version's columns."""
    kind = ToolKind(row["kind"])
    binding = json.loads(row["binding_json"])
    rules = json.loads(row["rules_json"])
    made = row["created_at"]
    return Tool(
        name=row["name"],
        description=row["description"],
        parameters=json.loads(row["parameters_json"]),
        timeout_ms=row["timeout_ms"],
        side_effect=SideEffect(row["side_effect"]),
        policy=ToolPolicy(row["policy"]),
        kind=kind,
        http=_http(row, binding) if kind is ToolKind.HTTP else None,
        mcp=McpBinding(**binding) if kind is ToolKind.MCP else None,
        grpc=_grpc(binding) if kind is ToolKind.GRPC else None,
        wasm=WasmBinding(**binding) if kind is ToolKind.WASM else None,
        python=PythonBinding(**binding) if kind is ToolKind.PYTHON else None,
        offer=Offer(**json.loads(row["offer_json"])) if row["offer_json"] else None,
        enabled=row["enabled"],
        reconcile_tool=row["reconcile_tool"],
        schema_hash=row["schema_hash"],
        limits=ToolLimits(**rules.get("limits", {})),
        cost_micros=rules.get("cost_micros", 0),
        role_policies=tuple((role, ToolPolicy(policy)) for role, policy in rules.get("role_policies", ())),
        result_schema=rules.get("result_schema"),
        examples=tuple(rules.get("examples", ())),
        retry=RetryClass(rules.get("retry", RetryClass.NEVER)),
        version=row["version"],
        updated_at=datetime.fromisoformat(made) if isinstance(made, str) else made,
    )


def auth_of(value: Any) -> HttpAuth | None:
    """The reference to a secret that `asdict` wrote."""
    return HttpAuth(**{**value, "scheme": AuthScheme(value["scheme"])}) if value else None


def _binding(tool: Tool) -> dict[str, Any]:
    """What the columns of the first version do not hold."""
    if tool.http is not None:
        rest = {name: getattr(tool.http, name) for name in ("query_arguments", "body_argument", "body_template")}
        return {**rest, "auth": asdict(tool.http.auth) if tool.http.auth else None}
    binding = tool.mcp or tool.grpc or tool.wasm or tool.python
    return asdict(binding) if binding else {}


def _rules(tool: Tool) -> dict[str, Any]:
    return {
        "limits": asdict(tool.limits),
        "cost_micros": tool.cost_micros,
        "role_policies": tool.role_policies,
        "result_schema": tool.result_schema,
        "examples": tool.examples,
        "retry": tool.retry.value,
    }


def _http(row: Any, binding: dict[str, Any]) -> HttpBinding:
    return HttpBinding(
        row["method"],
        row["url_template"],
        auth=auth_of(binding.get("auth")),
        query_arguments=tuple(binding.get("query_arguments", ())),
        body_argument=binding.get("body_argument", ""),
        body_template=binding.get("body_template", ""),
    )


def _grpc(binding: dict[str, Any]) -> GrpcBinding:
    return GrpcBinding(**{**binding, "auth": auth_of(binding["auth"])})
