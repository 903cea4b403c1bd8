"""What several commands share: options, the client, where to print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from errand_cli.client import Client
from errand_cli.layout import LaunchError, Layout

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="folder of the suite's state; default ./.errand")]
Url = Annotated[str, typer.Option("--url", envvar="ERRAND_URL", help="gateway of a suite elsewhere")]
Key = Annotated[str, typer.Option("--key", envvar="ERRAND_API_KEY", help="API key")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON object")]
out = Console()


def client_of(data_dir: Path | None, url: str, key: str) -> Client:
    """A client of the gateway at `url`, or of the suite in the data directory; raises LaunchError."""
    if url and not key:
        raise LaunchError(f"{url} needs a key: set ERRAND_API_KEY or give --key.")
    layout = Layout.of(data_dir)
    return Client(url or str(layout.read_state()["url"]), key or layout.read_admin_key())
