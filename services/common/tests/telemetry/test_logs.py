"""Log lines: JSON, bound context, no secrets."""

import json
import logging

import pytest
import structlog
from errand_common.telemetry import configure_logging
from errand_common.telemetry.logs import switch_debug

pytestmark = pytest.mark.usefixtures("restored_logging")


def test_lines_are_json_with_service_and_context(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("agent")
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        structlog.get_logger("x").info("ran", steps=3)
        logging.getLogger("library").warning("careful %s", "now")
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["event"], first["steps"], first["request_id"], first["service"]) == ("ran", 3, "r-1", "agent")
    assert (second["event"], second["request_id"], second["level"]) == ("careful now", "r-1", "warning")


CANARY = "CANARYCANARYCANARY"


def _fail() -> None:
    raise ValueError(f"cannot reach postgres://app:{CANARY}@db/x with password={CANARY}")


@pytest.mark.parametrize("output_format", ["json", "pretty"])
def test_secrets_are_masked_wherever_they_stand(output_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("agent", output_format=output_format)
    key = f"errand_ab12cd_{CANARY}"
    log = structlog.get_logger("x")
    log.info("a", api_key=CANARY, headers={"Authorization": f"Bearer {CANARY}"}, nested=[{"password": CANARY}])
    log.info("b", token=CANARY.encode(), client_secret={"value": CANARY}, error=ValueError(f"Bearer {CANARY}"))
    log.info(f"key {key} used")
    logging.getLogger("library").warning("header %s", f"Bearer {CANARY}", extra={"cookie": CANARY})
    try:
        _fail()
    except ValueError:
        log.exception("failed")
    shown = capsys.readouterr().out
    assert "CANARY" not in shown.replace("CANARY}", "")
    assert "Traceback" in shown
    assert shown.count("***") >= 9


def test_figures_about_tokens_are_no_secrets_and_loops_end(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("agent")
    loop: dict[str, object] = {}
    loop["self"] = loop
    structlog.get_logger("x").info("ran", input_tokens=12, nothing=None, loop=loop)
    line = json.loads(capsys.readouterr().out)
    assert (line["input_tokens"], line["nothing"]) == (12, None)


def test_the_level_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("agent", level="warning")
    structlog.get_logger("x").info("quiet")
    assert capsys.readouterr().out == ""


def test_the_level_changes_while_the_service_runs(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("agent", level="info")
    log = structlog.get_logger("errand_agent.x")
    log.debug("hidden")
    switch_debug("agent", "info")
    log.debug("shown")
    switch_debug("agent", "info")
    log.debug("hidden again")
    events = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert events == ["log level changed", "shown", "log level changed"]


def test_addresses_of_people_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("agent")
    structlog.get_logger("x").info("asked by jane.doe+x@example.com", who="<joe@example.org>")
    assert "@" not in capsys.readouterr().out


def test_libraries_tell_no_debug_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Drivers put statements with all their values there."""
    configure_logging("agent", level="debug")
    logging.getLogger("aiosqlite").debug("INSERT INTO messages VALUES ('my diary')")
    logging.getLogger("aiosqlite").warning("careful")
    structlog.get_logger("errand_common.db").debug("ours")
    events = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert events == ["careful", "ours"]
