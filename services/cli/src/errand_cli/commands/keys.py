"""`errand keys`."""

from __future__ import annotations

import typer

from errand_cli.commands.options import DataDir, Key, Url, client_of, out

app = typer.Typer(no_args_is_help=True, help="API keys.")


@app.callback()
def _keys() -> None:
    """API keys."""


@app.command("create")
def create_key(name: str, data_dir: DataDir = None, url: Url = "", key: Key = "") -> None:
    """Make an API key; it is shown once."""
    out.print_json(data=client_of(data_dir, url, key).post("/api/v1/admin/keys", {"name": name}))
