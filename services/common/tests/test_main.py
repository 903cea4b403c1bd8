"""What a service says when it cannot run: one line that an operator can act on."""

import json
from pathlib import Path

import pytest
from errand_common.errors import Unavailable
from errand_common.main import BAD_SETTINGS_STATUS, CRASHED_STATUS, run_service
from errand_common.settings import ServiceSettings
from pydantic_settings import SettingsConfigDict


class _Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="ERRAND_PROBE_")


@pytest.fixture(autouse=True)
def serve_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["errand_probe", "serve"])


async def _database_away(_: _Settings) -> None:
    raise Unavailable("database")


async def _bug(_: _Settings) -> None:
    raise ConnectionRefusedError("connection to server at 10.0.0.7 failed\nmore of it")


async def _never(_: _Settings) -> None:
    raise AssertionError("it must not start")


def test_a_known_cause_is_one_line_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_service("errand_probe", _Settings, _database_away) == CRASHED_STATUS
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "database" in line["reason"]
    assert "exception" not in line


def test_an_unknown_cause_is_told_before_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_service("errand_probe", _Settings, _bug) == CRASHED_STATUS
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert line["reason"] == "ConnectionRefusedError: connection to server at 10.0.0.7 failed"
    assert "Traceback" in line["exception"]


def test_missing_certificates_are_a_setting_that_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ERRAND_PROBE_TLS_DIR", str(tmp_path))
    assert run_service("errand_probe", _Settings, _never) == BAD_SETTINGS_STATUS
    assert "holds no tls.key and no tls.crt and no ca.crt" in capsys.readouterr().err
