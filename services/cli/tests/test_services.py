"""What the suite is made of: ports, targets, secrets in the right places only."""

import socket
from pathlib import Path

import pytest
from errand_cli.layout import LaunchError, Layout
from errand_cli.services import choose_ports, service_specs


def test_a_taken_port_is_refused_with_the_cure() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(LaunchError, match="--port"):
            choose_ports(taken.getsockname()[1])


def test_ports_differ() -> None:
    ports = choose_ports(None)
    chosen = [ports.gateway, ports.mlflow, *ports.grpc.values()]
    assert len(set(chosen)) == len(chosen) == 6


def test_targets_point_at_each_other_and_only_signers_get_the_key(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path)
    layout.prepare()
    ports = choose_ports(None)
    specs = {spec.name: spec for spec in service_specs(layout, ports)}
    assert set(specs) == {"gateway", "agent", "inference", "rag", "tools", "mlflow"}
    assert specs["agent"].environment["ERRAND_AGENT_TOOLS_TARGET"] == f"127.0.0.1:{ports.grpc['tools']}"
    assert specs["tools"].environment["ERRAND_TOOLS_RAG_TARGET"] == f"127.0.0.1:{ports.grpc['rag']}"
    with_key = {name for name, spec in specs.items() if str(layout.signing_key) in spec.environment.values()}
    assert with_key == {"gateway", "agent", "rag"}
    with_admin = {name for name, spec in specs.items() if layout.read_admin_key() in spec.environment.values()}
    assert with_admin == {"gateway"}


def test_an_operator_s_own_variable_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERRAND_INFERENCE_MODEL_PATH", "/models/functiongemma")
    layout = Layout.of(tmp_path)
    layout.prepare()
    specs = {spec.name: spec for spec in service_specs(layout, choose_ports(None))}
    assert specs["inference"].environment["ERRAND_INFERENCE_MODEL_PATH"] == "/models/functiongemma"
