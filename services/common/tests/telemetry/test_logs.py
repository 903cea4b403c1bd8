"""Log lines: JSON, bound context, no secrets."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from errand_common.telemetry import configure_logging


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_lines_are_json_with_service_and_context(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("agent")
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        structlog.get_logger("x").info("ran", steps=3)
        logging.getLogger("library").warning("careful %s", "now")
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["event"], first["steps"], first["request_id"], first["service"]) == ("ran", 3, "r-1", "agent")
    assert (second["event"], second["request_id"], second["level"]) == ("careful now", "r-1", "warning")


def test_secrets_are_masked_wherever_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("agent")
    key = "errand_ab12cd_SECRETSECRETSECRETSECRET"
    log = structlog.get_logger("x")
    log.info("a", api_key=key, headers={"Authorization": "Bearer abc.def.ghi"}, nested=[{"password": "hunter2"}])
    log.info(f"key {key} used")
    try:
        raise ValueError(f"bad {key}")
    except ValueError:
        log.exception("failed")
    shown = capsys.readouterr().out
    assert "SECRETSECRET" not in shown
    assert "abc.def.ghi" not in shown
    assert "hunter2" not in shown
    assert "***" in shown


def test_the_level_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("agent", level="warning")
    structlog.get_logger("x").info("quiet")
    assert capsys.readouterr().out == ""
