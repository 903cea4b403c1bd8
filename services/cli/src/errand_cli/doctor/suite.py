"""The processes of a suite on this machine: settings, ports, health, MLflow."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

from errand_cli.doctor.findings import Finding, note, ok, wrong
from errand_cli.doctor.machine import model_files
from errand_cli.layout import LaunchError, Layout
from errand_cli.services import GRPC_SERVICES, Ports, ServiceSpec, service_specs

_ANSWER_SECONDS = 5.0
_SETTINGS_SECONDS = 60.0
_MANY_RESTARTS = 3


def settings(layout: Layout) -> Iterator[Finding]:
    """Each service's own check of its settings, as `errand up` would start it; then the model that they name."""
    try:
        specs = service_specs(layout, Ports(0, 0, dict.fromkeys(GRPC_SERVICES, 0)))
    except LaunchError as error:
        yield note("settings", str(error), "`errand up` makes what is missing")
        return
    services = [replace(spec, command=(*spec.command[:-1], "check-config")) for spec in specs if spec.name != "mlflow"]
    with ThreadPoolExecutor(2) as pool:
        for spec, (finding, values) in zip(services, pool.map(_checked, services), strict=True):
            yield finding
            if spec.name == "inference" and values:
                yield model_files(values)


def _checked(spec: ServiceSpec) -> tuple[Finding, dict[str, Any]]:
    name = f"settings of {spec.name}"
    environment = {**os.environ, **spec.environment}
    try:
        done = subprocess.run(  # noqa: S603 - our own command line
            spec.command, env=environment, capture_output=True, text=True, timeout=_SETTINGS_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return wrong(name, f"no answer in {_SETTINGS_SECONDS:.0f} s", "the machine is overloaded; try again"), {}
    if done.returncode:
        last = " ".join(done.stderr.strip().splitlines()[-3:])[-500:]
        return wrong(name, last or f"exit status {done.returncode}", "correct the variable that is named"), {}
    values: dict[str, Any] = json.loads(done.stdout)
    return ok(name, f"{len(values)} settings are valid"), values


def processes(state: dict[str, Any]) -> Iterator[Finding]:
    """Whether each process runs, and how often it had to be started again."""
    for service in state["services"]:
        name, restarts = str(service["name"]), int(service["restarts"])
        if service["state"] != "running":
            yield wrong(f"process {name}", str(service["state"]), f"read why: `errand logs {name}`")
        elif restarts >= _MANY_RESTARTS:
            yield note(f"process {name}", f"was started again {restarts} times", f"read why: `errand logs {name}`")
        else:
            yield ok(f"process {name}", f"pid {service['pid']}")


def grpc_health(state: dict[str, Any]) -> Iterator[Finding]:
    """The port and the health of each gRPC service."""
    for name, port in state["ports"].items():
        yield _serving(str(name), int(port))


def _serving(name: str, port: int) -> Finding:
    check = f"health of {name}"
    cure = f"it may still be starting; else read why: `errand logs {name}`"
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        # The package's stubs do not tell the methods that the constructor sets.
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_ANSWER_SECONDS)
        except grpc.RpcError as error:
            return wrong(check, f"port {port}: {error.code().name}", cure)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        return wrong(check, f"port {port}: not serving", cure)
    return ok(check, f"serving on port {port}")


def mlflow(url: str) -> Finding:
    """Whether MLflow answers. The suite works without it, but no trace is kept."""
    try:
        healthy = httpx.get(f"{url.rstrip('/')}/health", timeout=_ANSWER_SECONDS).is_success
    except httpx.HTTPError:
        healthy = False
    if not healthy:
        return note(
            "mlflow", f"{url} does not answer", "it needs half a minute to start; else read `errand logs mlflow`"
        )
    return ok("mlflow", url)
