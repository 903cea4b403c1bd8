"""`errand rag`: what concerns the rag service itself."""

from __future__ import annotations

import subprocess
import sys

import typer

from errand_cli.layout import Layout

app = typer.Typer(no_args_is_help=True, help="Search quality and upkeep.")


@app.command(
    "eval", context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def evaluate(context: typer.Context) -> None:
    """Score search on a labelled set: recall, nDCG, MRR, latency; without --target, the running suite's."""
    arguments = list(context.args)
    if "--target" not in arguments and "--help" not in arguments:
        layout = Layout.of(None)
        port = layout.read_state()["ports"]["rag"]
        arguments += ["--target", f"127.0.0.1:{port}", "--signing-key", str(layout.signing_key)]
    command = [sys.executable, "-m", "errand_rag.evaluation", *arguments]
    raise typer.Exit(subprocess.run(command, check=False).returncode)  # noqa: S603 - our own module
