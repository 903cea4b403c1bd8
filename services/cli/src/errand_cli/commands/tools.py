"""`errand tools`."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.table import Table

from errand_cli.commands.options import AsJson, DataDir, Key, Url, client_of, out

app = typer.Typer(no_args_is_help=True, help="Tools.")


@app.callback()
def _tools() -> None:
    """Tools."""


@app.command("report")
def report(
    tool: Annotated[str, typer.Argument(help="only this tool")] = "",
    days: Annotated[int, typer.Option(min=1, max=90, help="days back, today among them")] = 7,
    data_dir: DataDir = None,
    url: Url = "",
    key: Key = "",
    as_json: AsJson = False,
) -> None:
    """Tell how calls ended, by tool and version: success, latency, cost, refused arguments."""
    found = client_of(data_dir, url, key).get("/api/v1/tool-reports", tool=tool, days=days)
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    out.print(_table(found["items"]) if found["items"] else "No calls.")


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("tool", overflow="fold")
    for name in ("calls", "ok", "failed", "p50 ms", "p95 ms", "cost $"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("wrong arguments", overflow="fold")
    for row in rows:
        table.add_row(
            f"{row['name']} v{row['version']}",
            str(row["calls"]),
            f"{row['succeeded'] / row['calls']:.1%}",
            str(row["failed"] + row["timed_out"] + row["denied"] + row["unsettled"]),
            f"{row['p50_ms']:.1f}",
            f"{row['p95_ms']:.1f}",
            f"{row['cost_micros'] / 1e6:.4f}",
            _wrong(row),
        )
    return table


def _wrong(row: dict[str, Any]) -> str:
    names = [error["argument"] or "?" for error in row["argument_errors"][:3]]
    return f"{row['invalid_arguments']} ({', '.join(names)})" if names else str(row["invalid_arguments"])
