"""A conversion tells how far it is, and why it failed."""

from __future__ import annotations

import io
import sys

import pytest
from errand_common.errors import ModelUnavailable
from errand_inference import conversion
from errand_inference.conversion import run_conversion
from structlog.testing import capture_logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def saying(code: str) -> list[str]:
    return [sys.executable, "-c", f"import sys\n{code}"]


def test_the_last_line_is_the_reason_however_much_was_said() -> None:
    code = "sys.stderr.write('noise ' * 100_000 + '\\nweights are cut off\\n')\nsys.exit(3)"
    with pytest.raises(ModelUnavailable, match="cannot be converted: weights are cut off"):
        run_conversion(saying(code), model="m")
    with pytest.raises(ModelUnavailable, match="no message"):
        run_conversion(saying("sys.exit(1)"), model="m")


def test_a_long_one_is_logged_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "_TOLD_SECONDS", 0.05)
    with capture_logs() as logs:
        run_conversion(saying("import time; time.sleep(0.4)"), model="m")
    assert {(entry["event"], entry["model"]) for entry in logs} == {("converting the model", "m")}


def test_one_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "_TOLD_SECONDS", 0.05)
    monkeypatch.setattr(conversion, "_LONGEST_SECONDS", 0.1)
    with pytest.raises(ModelUnavailable, match="too long"):
        run_conversion(saying("import time; time.sleep(600)"), model="m")


def test_on_a_terminal_its_progress_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    run_conversion(saying("import os; sys.stderr.write('50% of ' + os.environ['FORCE_COLOR'])"), model="m")
    assert terminal.getvalue() == "50% of 1"
