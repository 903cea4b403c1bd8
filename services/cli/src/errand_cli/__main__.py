"""The `errand` command."""

from __future__ import annotations

import sys

import typer

from errand_cli.client import ApiError
from errand_cli.commands import ask, doctor, documents, keys, models, rag, runs, suite, tools
from errand_cli.layout import LaunchError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Errand: tool-calling agents on your own machine.")
# Commands of the first level, in the order of the help.
for part in (suite.app, ask.app, documents.app, runs.app, doctor.app, models.app):
    app.registered_commands += part.registered_commands
app.add_typer(runs.run, name="run")
app.add_typer(keys.app, name="keys")
app.add_typer(rag.app, name="rag")
app.add_typer(tools.app, name="tools")


def main() -> None:
    """Runs the command line; a known error is one line and exit status 1."""
    try:
        app()
    except (LaunchError, ApiError, PermissionError) as error:
        sys.stderr.write(f"errand: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
