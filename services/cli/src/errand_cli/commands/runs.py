"""What a run did: its story in the terminal, its trace in MLflow."""

from __future__ import annotations

import json
import sys
import webbrowser
from typing import Annotated

import typer

from errand_cli.client import ApiError
from errand_cli.commands.options import AsJson, DataDir, Key, Url, client_of, out
from errand_cli.layout import Layout
from errand_cli.mlflow import find_trace
from errand_cli.story import told

app = typer.Typer()
run = typer.Typer(no_args_is_help=True, help="Runs.")


@run.callback()
def _run() -> None:
    """Runs."""


@run.command("show")
def show(run_id: str, data_dir: DataDir = None, url: Url = "", key: Key = "", as_json: AsJson = False) -> None:
    """Tell what a run did, step by step: calls, results, tokens, times, sources, why it ended."""
    found = client_of(data_dir, url, key).get_run(run_id)
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    out.print(told(found), highlight=False)


@app.command("trace")
def trace(
    run_id: str,
    data_dir: DataDir = None,
    mlflow_url: Annotated[
        str, typer.Option("--mlflow-url", envvar="ERRAND_MLFLOW_URL", help="MLflow of a suite elsewhere")
    ] = "",
    experiment: Annotated[str, typer.Option(help="id of MLflow's experiment with the traces")] = "0",
    open_page: Annotated[bool, typer.Option("--open", help="open it in the browser")] = False,
) -> None:
    """Print the address of a run's trace in MLflow."""
    server = mlflow_url or str(Layout.of(data_dir).read_state()["mlflow_url"])
    found = find_trace(server, run_id, experiment)
    if found is None:
        raise ApiError(
            f"MLflow has no trace of {run_id} (yet): spans come a few seconds after a run has ended. When many are "
            "asked for at once some are only counted; `errand run show` tells of each."
        )
    out.print(found.url, soft_wrap=True, highlight=False, markup=False)
    if open_page:
        webbrowser.open(found.url)
