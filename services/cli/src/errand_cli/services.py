"""What the suite consists of on one machine: each process, its command and its environment."""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path

from errand_cli.layout import LaunchError, Layout

GRPC_SERVICES = ("agent", "inference", "rag", "tools")
PROJECT = Path(__file__).parents[4]


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One process of the suite. With `ends_last` it hears what the others still tell when they stop."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    port: int = 0
    ends_last: bool = False


@dataclass(frozen=True, slots=True)
class Ports:
    """Where each process listens."""

    gateway: int
    mlflow: int
    grpc: dict[str, int]


def choose_ports(gateway: int | None) -> Ports:
    """Free ports; raises LaunchError when the one asked for is taken. 8080 is preferred for the gateway."""
    if gateway is not None and not _is_free(gateway):
        raise LaunchError(f"Port {gateway} is in use; choose another with --port.")
    chosen = gateway if gateway is not None else 8080 if _is_free(8080) else _free_ports(1)[0]
    mlflow, *others = _free_ports(1 + len(GRPC_SERVICES))
    return Ports(chosen, mlflow, dict(zip(GRPC_SERVICES, others, strict=True)))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_ports(count: int) -> list[int]:
    """Held all at once, so that no two are the same."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def service_specs(layout: Layout, ports: Ports) -> list[ServiceSpec]:
    """All processes, those that others wait for first. Variables of the caller's environment win."""
    specs = [_grpc_spec(name, layout, ports) for name in ("inference", "rag", "tools", "agent")]
    return [*specs, _gateway_spec(layout, ports), _mlflow_spec(layout, ports)]


def _shared(name: str, layout: Layout, ports: Ports, port: int) -> dict[str, str]:
    own = {
        "PORT": str(port),
        "DATA_DIR": str(layout.root),
        "JWKS": str(layout.jwks),
        "MLFLOW_ENDPOINT": f"http://127.0.0.1:{ports.mlflow}/v1/traces",
        "MLFLOW_HEADERS": json.dumps({"x-mlflow-experiment-id": "0"}),
    }
    return {f"ERRAND_{name.upper()}_{key}": value for key, value in own.items()}


def _grpc_spec(name: str, layout: Layout, ports: Ports) -> ServiceSpec:
    environment = _shared(name, layout, ports, ports.grpc[name])
    targets = {"agent": ("inference", "rag", "tools"), "rag": ("inference",), "tools": ("rag",)}
    for target in targets.get(name, ()):
        environment[f"ERRAND_{name.upper()}_{target.upper()}_TARGET"] = f"127.0.0.1:{ports.grpc[target]}"
    if name in ("agent", "rag"):
        environment[f"ERRAND_{name.upper()}_SIGNING_KEY_FILE"] = str(layout.signing_key)
    if name == "inference":
        environment["ERRAND_INFERENCE_MODEL_PATH"] = str(PROJECT / "models" / "errand-tiny")
        environment["ERRAND_INFERENCE_CACHE_DIR"] = str(PROJECT / ".cache" / "errand")
    command = (sys.executable, "-m", f"errand_{name}", "serve")
    return ServiceSpec(name, command, {**environment, **_given(name)}, ports.grpc[name])


def _gateway_spec(layout: Layout, ports: Ports) -> ServiceSpec:
    environment = _shared("gateway", layout, ports, ports.gateway)
    for target in GRPC_SERVICES:
        environment[f"ERRAND_GATEWAY_{target.upper()}_TARGET"] = f"127.0.0.1:{ports.grpc[target]}"
    environment["ERRAND_GATEWAY_SIGNING_KEY_FILE"] = str(layout.signing_key)
    environment["ERRAND_GATEWAY_BOOTSTRAP_ADMIN_KEY"] = layout.read_admin_key()
    command = (sys.executable, "-m", "errand_gateway", "serve")
    return ServiceSpec("gateway", command, {**environment, **_given("gateway")}, ports.gateway)


def _given(name: str) -> dict[str, str]:
    prefix = f"ERRAND_{name.upper()}_"
    return {key: value for key, value in os.environ.items() if key.startswith(prefix)}


def _mlflow_spec(layout: Layout, ports: Ports) -> ServiceSpec:
    folder = layout.root / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    command = (
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(ports.mlflow)),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artifacts"), "--workers", "1"),
    )
    environment = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Its job workers are half a dozen processes of 250 MB that showing traces does not need.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    return ServiceSpec("mlflow", command, environment, ports.mlflow, ends_last=True)
