"""`errand doctor`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import typer
from rich.table import Table

from errand_cli.commands.options import AsJson, DataDir, Key, Url, out
from errand_cli.doctor import machine, suite
from errand_cli.doctor.findings import Finding, Level, wrong
from errand_cli.doctor.gateway import gateway
from errand_cli.layout import LaunchError, Layout

app = typer.Typer()
_COLOURS = {Level.OK: "green", Level.NOTE: "yellow", Level.WRONG: "red"}
_HERE = "read `errand logs`"
_THERE = "read the logs of its pods"


@app.command("doctor")
def doctor(data_dir: DataDir = None, url: Url = "", key: Key = "", as_json: AsJson = False) -> None:
    """Check everything the suite needs and say what to do; exit status 1 when something is wrong."""
    findings = list(gateway(url, key, logs=_THERE) if url else _local(data_dir, key))
    is_wrong = any(finding.level is Level.WRONG for finding in findings)
    if as_json:
        sys.stdout.write(json.dumps({"ok": not is_wrong, "findings": [asdict(item) for item in findings]}) + "\n")
    else:
        _print(findings)
    raise typer.Exit(int(is_wrong))


def _local(data_dir: Path | None, key: str) -> Iterator[Finding]:
    layout = Layout.of(data_dir)
    yield machine.versions()
    yield machine.disk(layout.root)
    yield machine.memory()
    yield from machine.data_directory(layout)
    yield from suite.settings(layout)
    try:
        state = layout.read_state()
    except LaunchError as error:
        yield wrong("suite", str(error), "`errand up`")
        return
    yield from suite.processes(state)
    yield from suite.grpc_health(state)
    yield suite.mlflow(str(state["mlflow_url"]))
    yield from gateway(str(state["url"]), key or layout.read_admin_key(), logs=_HERE)


def _print(findings: list[Finding]) -> None:
    table = Table("", "check", "found", box=None, pad_edge=False)
    for finding in findings:
        colour = _COLOURS[finding.level]
        table.add_row(f"[{colour}]{finding.level.value}[/{colour}]", finding.check, _text(finding))
    out.print(table, highlight=False)
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    out.print(f"\n{counts[Level.OK]} ok, {counts[Level.NOTE]} to note, {counts[Level.WRONG]} wrong")


def _text(finding: Finding) -> str:
    detail = finding.detail.replace("[", "\\[")
    return f"{detail}\n-> {finding.cure}".replace("-> ", "[bold]->[/bold] ") if finding.cure else detail
