"""Checks of the suite's processes on this machine."""

from pathlib import Path

import httpx
import pytest
import respx
from errand_cli.doctor import suite
from errand_cli.doctor.findings import Level
from errand_cli.layout import Layout
from errand_common.testing.keys import free_port


def test_a_setting_that_is_wrong_is_named_and_the_model_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERRAND_TOOLS_LOG_LEVL", "info")
    layout = Layout.of(tmp_path)
    layout.prepare()
    found = {finding.check: finding for finding in suite.settings(layout)}
    misspelled = found.pop("settings of tools")
    assert misspelled.level is Level.WRONG
    assert "did you mean ERRAND_TOOLS_LOG_LEVEL" in misspelled.detail
    assert {finding.level for finding in found.values()} == {Level.OK}
    assert set(found) == {f"settings of {name}" for name in ("gateway", "agent", "inference", "rag")} | {"model files"}


def test_a_process_that_dies_again_and_again_is_noted() -> None:
    services = [
        {"name": "rag", "pid": 7, "state": "running", "restarts": 0},
        {"name": "agent", "pid": 8, "state": "running", "restarts": 5},
        {"name": "tools", "pid": 0, "state": "restarting", "restarts": 1},
    ]
    levels = [finding.level for finding in suite.processes({"services": services})]
    assert levels == [Level.OK, Level.NOTE, Level.WRONG]


def test_a_port_that_nobody_listens_on_is_wrong() -> None:
    (finding,) = suite.grpc_health({"ports": {"rag": free_port()}})
    assert finding.level is Level.WRONG
    assert "errand logs rag" in finding.cure


@respx.mock
def test_an_mlflow_that_is_away_is_only_noted() -> None:
    respx.get("http://mlflow/health").mock(side_effect=[httpx.ConnectError("no"), httpx.Response(200, text="OK")])
    assert suite.mlflow("http://mlflow").level is Level.NOTE
    assert suite.mlflow("http://mlflow").level is Level.OK
