"""What the operations pages tell people to type exists: commands, REST paths, queries, links."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import typer
from errand_cli.__main__ import app as errand
from errand_common.testing.keys import TestKeys
from errand_gateway.app import build_app
from errand_gateway.settings import GatewaySettings
from pydantic import SecretStr

from charts.observability.alerts import ALERTS, RUNBOOKS
from charts.observability.expressions import faults
from charts.observability.table import PROJECT

PAGES = sorted((PROJECT / "docs" / "operations").rglob("*.md"))
_BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_METHOD_AND_PATH = re.compile(r"`(GET|POST|PUT|PATCH|DELETE) (/[^` ?]+)`")


def _blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in _BLOCK.findall(page.read_text()) if kind == language]


def blocks_under(heading: str, language: str) -> list[str]:
    """The operations guide's blocks below a heading of the second level."""
    text = (PROJECT / "docs" / "operations" / "guide.md").read_text()
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [block for kind, block in _BLOCK.findall(section) if kind == language]


def _lines(page: Path) -> list[str]:
    """The commands of a page's shell blocks, continued lines joined."""
    text = "\n".join(_blocks(page, "bash")).replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def test_each_alert_has_its_runbook_and_each_runbook_its_alert() -> None:
    pages = {path.stem: path.read_text() for path in (PROJECT / RUNBOOKS).glob("*.md")}
    assert set(pages) == {alert.name for alert in ALERTS}
    for name, text in pages.items():
        assert re.findall(r"^#+ (.*)$", text, re.MULTILINE) == [name, "Symptom", "Check", "Cure"]
        assert "```" in text, f"{name} has no command"
    for alert in ALERTS:
        annotations: Any = alert.rule()["annotations"]
        assert (PROJECT / annotations["runbook_url"]).is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_queries_ask_for_what_is_exported(page: Path) -> None:
    queries = [line.strip() for block in _blocks(page, "promql") for line in block.splitlines() if line.strip()]
    assert {query: found for query in queries if (found := faults(query))} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []


def _commands(line: str) -> list[list[str]]:
    """The `errand …` commands of a line."""
    return [shlex.split(part)[1:] for part in line.split("&&") if part.strip().startswith("errand ")]


def _unknown(words: list[str]) -> list[str]:
    """Commands and options that the command line does not know."""
    command: Any = typer.main.get_command(errand)
    while words and hasattr(command, "commands"):
        if words[0] not in command.commands:
            return [words[0]]
        command = command.commands[words[0]]
        words = words[1:]
    options = {option for parameter in command.params for option in parameter.opts}
    return [word for word in words if word.startswith("-") and word.partition("=")[0] not in options]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_are_ones_that_errand_knows(page: Path) -> None:
    inline = re.findall(r"`(errand [^`]+)`", page.read_text())
    found = [words for line in [*_lines(page), *inline] for words in _commands(line)]
    assert [unknown for words in found if (unknown := _unknown(words))] == []


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert _unknown(["repair", "--all"]) == ["repair"]
    assert _unknown(["doctor", "--fix"]) == ["--fix"]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The REST API as the gateway describes it."""
    folder = tmp_path_factory.mktemp("gateway")
    keys = TestKeys(folder)
    settings = GatewaySettings(
        data_dir=folder,
        jwks=str(keys.jwks_file),
        signing_key_file=keys.signing_key_file,
        bootstrap_admin_key=SecretStr("errand_admin0_0123456789abcdef0123456789abcdef"),
    )
    described: dict[str, Any] = build_app(settings).openapi()["paths"]
    return described


def _operation(paths: dict[str, Any], method: str, path: str) -> dict[str, Any] | None:
    for template, operations in paths.items():
        pattern = re.sub(r"\{[^/]+\}", "[^/]+", template)
        if re.fullmatch(pattern, path) and method.lower() in operations:
            operation: dict[str, Any] = operations[method.lower()]
            return operation
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_requests_are_ones_that_the_gateway_answers(page: Path, paths: dict[str, Any]) -> None:
    for method, path in _METHOD_AND_PATH.findall(page.read_text()):
        assert _operation(paths, method, path) is not None, f"{method} {path}"
    for line in (line for line in _lines(page) if line.startswith("curl ") and "errand" in line):
        words = shlex.split(line.partition("|")[0])
        url = urlsplit(next(word for word in words if "://" in word))
        method = words[words.index("-X") + 1] if "-X" in words else "POST" if "-d" in words else "GET"
        operation = _operation(paths, method, url.path)
        assert operation is not None, line
        known = {parameter["name"] for parameter in operation.get("parameters", ())}
        assert {name for name, _ in parse_qsl(url.query)} <= known, line
        if "-d" in words:
            json.loads(words[words.index("-d") + 1])
