"""Training and scoring of models."""

from __future__ import annotations

import subprocess
import sys

import typer

from errand_cli.commands.options import DataDir
from errand_cli.layout import Layout

app = typer.Typer()
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=_PASS_ON)
def train(context: typer.Context) -> None:
    """Train or fine-tune a model; `errand train --help` lists the options."""
    raise typer.Exit(_inference("train", context.args))


@app.command("eval", context_settings=_PASS_ON)
def evaluate(context: typer.Context, data_dir: DataDir = None) -> None:
    """Score the served model; without --target, the running suite's."""
    arguments = list(context.args)
    if "--target" not in arguments and "--help" not in arguments:
        layout = Layout.of(data_dir)
        port = layout.read_state()["ports"]["inference"]
        arguments += ["--target", f"127.0.0.1:{port}", "--signing-key", str(layout.signing_key)]
    raise typer.Exit(_inference("evaluate", arguments))


def _inference(command: str, arguments: list[str]) -> int:
    """In a process of its own: only this needs torch."""
    return subprocess.run([sys.executable, "-m", "errand_inference", command, *arguments], check=False).returncode  # noqa: S603
