"""Generates the chart's values.schema.json and docs/operations/chart-values.md; --check fails when they are stale.

Which settings a service has is told by the service's own settings class, so a setting that does not exist, or a value
that the service would refuse at start, is refused before anything is installed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from errand_agent.settings import AgentSettings
from errand_common.settings import ServiceSettings
from errand_gateway.settings import GatewaySettings
from errand_inference.settings import InferenceSettings
from errand_rag.settings import RagSettings
from errand_tools.settings import ToolsSettings

CHART = Path(__file__).parent / "errand"
PAGE = Path(__file__).parents[1] / "docs" / "operations" / "chart-values.md"
SERVICES: dict[str, type[ServiceSettings]] = {
    "gateway": GatewaySettings,
    "agent": AgentSettings,
    "inference": InferenceSettings,
    "rag": RagSettings,
    "tools": ToolsSettings,
}
# What the chart itself decides, or takes from a Secret.
MANAGED = {
    *("host", "port", "metrics_port", "data_dir", "database_url", "jwks", "signing_key_file", "drain_seconds"),
    *("otlp_endpoint", "mlflow_endpoint", "mlflow_headers", "otlp_headers", "agent_target", "inference_target"),
    *("rag_target", "tools_target", "dbos_database_url", "executor_id", "worker_name", "chroma_url", "hub_id"),
    *("hub_token", "bootstrap_admin_key", "key_pepper", "rate_limit_storage", "embedding_cache_url", "cache_dir"),
    *("tls_dir", "vector_store"),
}
Schema = dict[str, Any]


def closed(properties: Schema, description: str = "") -> Schema:
    """An object with these keys and no others."""
    shown = {"description": description} if description else {}
    return {**shown, "type": "object", "additionalProperties": False, "properties": properties}


def text(description: str = "", **rules: Any) -> Schema:
    return {"type": "string", **({"description": description} if description else {}), **rules}


def whole(least: int, most: int, description: str = "") -> Schema:
    return {
        "type": "integer",
        "minimum": least,
        "maximum": most,
        **({"description": description} if description else {}),
    }


def one_of(*names: str, description: str = "") -> Schema:
    return text(description, enum=list(names))


FLAG: Schema = {"type": "boolean"}
NAME = text(maxLength=253, pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$")
SIZE = text("a quantity such as 8Gi", pattern=r"^[1-9][0-9]*(Ki|Mi|Gi|Ti)$")
URL = text(pattern=r"^(https?://[^\s]+)?$")
OTLP = text("URL with its path, such as http://collector:4318/v1/traces", pattern=r"^(https?://[^\s/]+/[^\s]+)?$")
TAG = text(pattern=r"^[A-Za-z0-9_.-]*$", maxLength=128)
LABELS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
LIST: Schema = {"type": "array", "items": {"type": "object"}}
NAMES: Schema = {"type": "array", "items": {"type": "string"}}
IMAGE = closed({"repository": text(minLength=1), "tag": TAG})
QUANTITY: Schema = {"anyOf": [{"type": "string", "pattern": r"^[0-9.]+(m|Ki|Mi|Gi|Ti)?$"}, {"type": "number"}]}
AMOUNTS: Schema = {"type": "object", "additionalProperties": QUANTITY}
RESOURCES = closed({"requests": AMOUNTS, "limits": AMOUNTS})
VOLUME = {"storage": SIZE, "storageClass": NAME}
SECRET: Schema = {**closed({"secret": NAME, "key": text(minLength=1)}), "required": ["secret", "key"]}
AUTOSCALING = closed(
    {
        "enabled": FLAG,
        "minReplicas": whole(1, 1000),
        "maxReplicas": whole(1, 1000),
        "cpuPercent": whole(1, 100, "mean CPU use, in percent of the request, that replicas are added at"),
        "load": {
            "type": "number",
            "minimum": 0,
            "maximum": 1_000_000,
            "description": "mean load of a pod that replicas are added at; 0: by CPU alone",
        },
        "metrics": {**LIST, "description": "more metrics, as in a HorizontalPodAutoscaler"},
    }
)
CANARY = closed({"replicas": whole(0, 100), "tag": TAG})
HOURS = text("hours, such as 720h", pattern=r"^[1-9][0-9]*h$")
SCHEDULE = text("cron, UTC", pattern=r"^\S+ \S+ \S+ \S+ \S+$")
PLACEMENT = {"nodeSelector": LABELS, "tolerations": LIST}


_DROPPED = {"default", "title", "format", "writeOnly", "anyOf", "prefixItems", "minItems", "maxItems", "$ref"}
# What holds schemas by names, and what is a schema itself.
_NAMED, _NESTED = ("properties", "patternProperties"), ("items", "additionalProperties")


def setting(given: Schema, named: Schema) -> Schema:
    """One field of a settings class without what only pydantic reads; `named` holds what it refers to."""
    schema = dict(given)
    if "$ref" in schema:
        schema = {**named[schema["$ref"].rpartition("/")[2]], **schema}
    for choice in schema.get("anyOf", []):
        if choice.get("type") != "null":
            schema = {**setting(choice, named), **schema}
    return {key: _part(key, value, named) for key, value in schema.items() if key not in _DROPPED}


def _part(key: str, value: Any, named: Schema) -> Any:
    if key in _NAMED:
        return {name: setting(schema, named) for name, schema in value.items()}
    return setting(value, named) if key in _NESTED and isinstance(value, dict) else value


def settings(kind: type[ServiceSettings]) -> Schema:
    """The settings of a service that an operator may choose."""
    root = kind.model_json_schema()
    named = root.get("$defs", {})
    fields = {name: setting(schema, named) for name, schema in sorted(root["properties"].items())}
    hidden = secrets(kind)
    return closed({name: schema for name, schema in fields.items() if name not in MANAGED and name not in hidden})


def secrets(kind: type[ServiceSettings]) -> set[str]:
    """Settings that nobody may read in the values: they come from Secrets."""
    fields = kind.model_json_schema()["properties"].items()
    return {name for name, schema in fields if "writeOnly" in json.dumps(schema)} - MANAGED


def service(name: str, **more: Schema) -> Schema:
    own = {
        "replicas": whole(0, 1000),
        "image": IMAGE,
        "settings": settings(SERVICES[name]),
        "secretSettings": closed(dict.fromkeys(sorted(secrets(SERVICES[name])), SECRET)),
        "resources": RESOURCES,
        "autoscaling": AUTOSCALING,
        "disruptionBudget": FLAG,
    }
    return closed({**own, **PLACEMENT, **more})


def backend(*kinds: str, **more: Schema) -> Schema:
    return closed({"kind": one_of(*kinds), "image": IMAGE, "resources": RESOURCES, **more})


def job(rules: Schema | None = None, **more: Schema) -> Schema:
    """A CronJob that runs by its schedule, or when somebody asks for it."""
    schedule = text("cron, UTC; empty: when it is asked for", pattern=r"^(\S+ \S+ \S+ \S+ \S+)?$")
    return {
        **closed({"enabled": FLAG, "schedule": schedule, "image": IMAGE, "resources": RESOURCES, **more}),
        **(rules or {}),
    }


def needs(kind: str, *keys: str) -> Schema:
    """A kind that is nothing without these keys."""
    return {
        "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
        "then": {"properties": {key: {"minLength": 1} for key in keys}, "required": list(keys)},
    }


def schema() -> Schema:
    """The schema of values.yaml."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the errand chart",
        **closed(
            {
                "global": {"type": "object", "description": "Helm's own; not used"},
                "image": closed(
                    {
                        "registry": text("put before each image's name"),
                        "tag": TAG,
                        "pullPolicy": one_of("Always", "IfNotPresent", "Never"),
                        "pullSecrets": NAMES,
                    }
                ),
                "clusterDomain": NAME,
                "secrets": closed({"existingSecret": NAME}),
                "database": {
                    **backend("sqlite", "bundled", "external", existingSecret=NAME, **VOLUME),
                    **needs("external", "existingSecret"),
                },
                "redis": {
                    **backend("memory", "bundled", "external", existingSecret=NAME),
                    **needs("external", "existingSecret"),
                },
                "chroma": {
                    **backend("embedded", "bundled", "external", "pgvector", url=URL, **VOLUME),
                    **needs("external", "url"),
                },
                "mlflow": {
                    **backend(
                        *("off", "bundled", "external"),
                        url=URL,
                        experimentId=text(pattern=r"^[0-9]+$"),
                        headersSecret=NAME,
                        allowedHosts=NAMES,
                        **VOLUME,
                    ),
                    **needs("external", "url"),
                },
                "telemetry": closed(
                    {
                        "otlpEndpoint": OTLP,
                        "headersSecret": NAME,
                        "collector": closed(
                            {
                                "enabled": FLAG,
                                "keepPercent": whole(0, 100, "percent of the runs that ended well and fast"),
                                "slowSeconds": whole(1, 3600, "seconds"),
                                "image": IMAGE,
                                "resources": RESOURCES,
                            }
                        ),
                    }
                ),
                "priorityClass": closed({"create": FLAG, "value": whole(1, 1_000_000_000)}),
                "defaults": closed(
                    {
                        "probes": one_of("grpc", "http"),
                        "preStopSeconds": whole(0, 120, "seconds"),
                        "drainSeconds": whole(1, 600, "seconds"),
                        "priorityClassName": NAME,
                        "podAnnotations": LABELS,
                        **PLACEMENT,
                    }
                ),
                "gateway": service(
                    "gateway",
                    service=closed(
                        {
                            "type": one_of("ClusterIP", "NodePort", "LoadBalancer"),
                            "port": whole(1, 65535),
                            "annotations": LABELS,
                        }
                    ),
                    canary=CANARY,
                ),
                "agent": service("agent"),
                "inference": service(
                    "inference",
                    hubId=text(pattern=r"^([\w.-]+/[\w.-]+)?$"),
                    hubSecret=NAME,
                    modelClaim=NAME,
                    prepare=closed({"image": IMAGE, "resources": RESOURCES}),
                    cache=closed({"storage": text(pattern=r"^([1-9][0-9]*(Ki|Mi|Gi|Ti))?$"), "storageClass": NAME}),
                    gpus=whole(0, 16),
                    runtimeClassName=NAME,
                    canary=CANARY,
                ),
                "rag": service("rag", canary=CANARY),
                "tools": service("tools", runtimeClassName=NAME, canary=CANARY),
                "keda": closed({"enabled": FLAG, "prometheus": URL}),
                "ingress": closed(
                    {
                        "enabled": FLAG,
                        "className": NAME,
                        "host": text(minLength=1),
                        "tlsSecret": NAME,
                        "annotations": LABELS,
                    }
                ),
                "httpRoute": {
                    **closed(
                        {
                            "enabled": FLAG,
                            "gateway": closed({"name": NAME, "namespace": NAME}),
                            "hostnames": NAMES,
                        }
                    ),
                    "if": {"properties": {"enabled": {"const": True}}, "required": ["enabled"]},
                    "then": {"properties": {"gateway": {"properties": {"name": {"minLength": 1}}}}},
                },
                "networkPolicy": closed(
                    {
                        "enabled": FLAG,
                        "gatewayFrom": LIST,
                        "metricsFrom": LIST,
                        "grpcFrom": LIST,
                        "internet": FLAG,
                    }
                ),
                "mtls": closed(
                    {
                        "enabled": FLAG,
                        "certManager": FLAG,
                        "issuer": closed({"name": NAME, "kind": one_of("Issuer", "ClusterIssuer")}),
                        "duration": HOURS,
                        "renewBefore": HOURS,
                    }
                ),
                "serviceMonitor": closed(
                    {"enabled": FLAG, "interval": text(pattern=r"^[0-9]+(s|m)$"), "labels": LABELS}
                ),
                "prometheusRule": closed(
                    {"enabled": FLAG, "labels": LABELS, "runbookBase": text(pattern=r"^(https?://\S+/)?$")}
                ),
                "dashboards": closed({"enabled": FLAG, "labels": LABELS, "annotations": LABELS}),
                "backup": closed(
                    {
                        "enabled": FLAG,
                        "schedule": SCHEDULE,
                        "keep": whole(1, 365, "how many backups stay"),
                        "restoreFrom": text("a backup's name, or latest", pattern=r"^(latest|[0-9]{8}T[0-9]{6}Z)$"),
                        **VOLUME,
                    }
                ),
                "ingest": job(
                    claim=NAME,
                    folder=text(pattern=r"^([^/.][^\s]*)?$"),
                    collection=text(minLength=1, maxLength=128),
                    keySecret=NAME,
                    deadlineHours=whole(1, 720, "hours"),
                    rules={
                        "if": {"properties": {"enabled": {"const": True}}, "required": ["enabled"]},
                        "then": {"properties": {"claim": {"minLength": 1}}},
                    },
                ),
                "train": job(
                    baseClaim=NAME,
                    minutes=whole(1, 100_000, "minutes"),
                    arguments={"type": "array", "items": {"type": "string", "pattern": "^--"}},
                    gpus=whole(0, 16),
                    runtimeClassName=NAME,
                    **PLACEMENT,
                    **VOLUME,
                ),
            }
        ),
    }


def page(root: Schema) -> str:
    """All values as a table: path, default, rule."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    lines = [
        "# Values of the chart",
        "",
        "Generated by `charts/generate.py` from `values.yaml`, the schema and the services' own settings.",
        "What a value is for stands in `charts/errand/values.yaml`.",
        "",
        "| value | default | allowed |",
        "|---|---|---|",
    ]
    for path, rule, default in _rows(root, defaults, ""):
        lines.append(f"| `{path}` | {default} | {rule} |")
    return "\n".join(lines) + "\n"


def _rows(root: Schema, default: Any, path: str) -> list[tuple[str, str, str]]:
    if root.get("properties"):
        rows: list[tuple[str, str, str]] = []
        for name, child in root["properties"].items():
            below = default.get(name) if isinstance(default, dict) else None
            rows += _rows(child, below, f"{path}.{name}" if path else name)
        return rows
    shown = "" if default is None else f"`{json.dumps(default)}`"
    return [(path, _rule(root), shown)]


def _rule(root: Schema) -> str:
    parts = [str(root.get("type", "")), root.get("description", "")]
    if "enum" in root:
        parts[0] = " or ".join(f"`{name}`" for name in root["enum"])
    if "minimum" in root and "maximum" in root:
        parts[0] += f" {root['minimum']} to {root['maximum']}"
    return "; ".join(part for part in parts if part).replace("|", "\\|").replace("\n", " ")


def main() -> int:
    """Writes both files, or compares them."""
    root = schema()
    wanted = {CHART / "values.schema.json": json.dumps(root, indent=2) + "\n", PAGE: page(root)}
    if "--check" not in sys.argv:
        for path, content in wanted.items():
            path.write_text(content)
        return 0
    stale = [path for path, content in wanted.items() if not path.exists() or path.read_text() != content]
    for path in stale:
        sys.stderr.write(f"{path} is out of date: run python charts/generate.py\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
