"""`errand up` and what belongs to it: down, status, logs."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import typer
from rich.table import Table

from errand_cli import up as launcher
from errand_cli.commands.options import AsJson, DataDir, out
from errand_cli.layout import LaunchError, Layout

app = typer.Typer()


@app.command()
def up(
    data_dir: DataDir = None,
    port: Annotated[int | None, typer.Option(help="port of the gateway; default 8080, or a free one")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="run in the background")] = False,
    as_json: AsJson = False,
) -> None:
    """Start the suite: gateway, agent, inference, rag, tools and MLflow."""
    layout = Layout.of(data_dir)
    if detach or as_json:
        launcher.start_detached(layout, port, as_json=as_json)
    else:
        launcher.run_in_foreground(layout, port, announce=True)


@app.command(hidden=True)
def supervise(data_dir: DataDir = None, port: int | None = None) -> None:
    """What `up --detach` runs in the background."""
    launcher.run_in_foreground(Layout.of(data_dir), port, announce=False)


@app.command()
def down(data_dir: DataDir = None) -> None:
    """Stop the suite; its state stays."""
    launcher.stop(Layout.of(data_dir))


@app.command()
def status(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show each process: pid, state, restarts."""
    services = Layout.of(data_dir).read_state()["services"]
    if as_json:
        sys.stdout.write(json.dumps({"services": services}) + "\n")
        return
    table = Table("service", "pid", "state", "restarts")
    for service in services:
        table.add_row(service["name"], str(service["pid"] or "-"), service["state"], str(service["restarts"]))
    out.print(table)


@app.command()
def logs(
    service: Annotated[str, typer.Argument(help="one service; default all")] = "",
    data_dir: DataDir = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on as lines come")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=100_000, help="last lines of each")] = 50,
) -> None:
    """Print the services' logs."""
    folder = Layout.of(data_dir).logs
    files = sorted(folder.glob(f"{service or '*'}.log"))
    if not files:
        raise LaunchError(f"There is no log of {service or 'any service'} in {folder}.")
    command = ["tail", "-n", str(lines), *(["-F"] if follow else []), *map(str, files)]
    os.execvp("tail", command)  # noqa: S606, S607 - tail already follows, rotates and prefixes
