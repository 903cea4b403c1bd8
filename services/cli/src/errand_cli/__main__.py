"""The `errand` command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from errand_cli import up as launcher
from errand_cli.client import ApiError, Client
from errand_cli.layout import LaunchError, Layout
from errand_cli.rag import app as rag

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Errand: tool-calling agents on your own machine.")
keys = typer.Typer(no_args_is_help=True, help="API keys.")
app.add_typer(keys, name="keys")
app.add_typer(rag, name="rag")
out = Console()

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="folder of the suite's state; default ./.errand")]
Url = Annotated[str, typer.Option("--url", envvar="ERRAND_URL", help="gateway of a suite elsewhere")]
Key = Annotated[str, typer.Option("--key", envvar="ERRAND_API_KEY", help="API key")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON object")]
_DOCUMENT_SECONDS = 600


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


def _client(data_dir: Path | None, url: str, key: str) -> Client:
    layout = Layout.of(data_dir)
    return Client(url or str(layout.read_state()["url"]), key or layout.read_admin_key())


@app.command()
def chat(
    message: str,
    data_dir: DataDir = None,
    url: Url = "",
    key: Key = "",
    agent: Annotated[str, typer.Option(help="agent to ask; default the default one")] = "",
    conversation: Annotated[str, typer.Option(help="conversation to go on with")] = "",
) -> None:
    """Ask an agent and watch it work."""
    for name, data in _client(data_dir, url, key).chat(message, agent=agent, conversation_id=conversation):
        if name == "step" and data.get("kind") not in ("answer", "ANSWER"):
            out.print(f"[dim]{data.get('kind', '')}: {data.get('summary', '')}[/dim]", highlight=False)
        elif name == "ended":
            _print_end(data)
        elif name == "error":
            raise ApiError(f"{data.get('code')}: {data.get('message')}")


def _print_end(run: dict[str, Any]) -> None:
    out.print(run.get("answer", ""), markup=False)
    for citation in run.get("citations", []):
        out.print(f"[dim]\\[{citation['number']}] {citation['title']}[/dim]", highlight=False)


@app.command()
def ingest(
    paths: Annotated[list[Path], typer.Argument(exists=True, help="files or folders")],
    collection: Annotated[str, typer.Option(help="collection by id or name")] = "default",
    data_dir: DataDir = None,
    url: Url = "",
    key: Key = "",
) -> None:
    """Upload documents and wait until they can be found."""
    client = _client(data_dir, url, key)
    files = [
        file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path]) if file.is_file()
    ]
    failed = 0
    client.ensure_collection(collection)
    with Progress(console=launcher.console) as progress:
        for file in progress.track(files, description="ingesting"):
            document = _until_settled(client, client.upload(collection, file))
            if document["state"].lower() == "failed":
                failed += 1
                out.print(f"{file}: {document.get('failure', '')}", markup=False)
    out.print(f"{len(files) - failed} of {len(files)} documents are ready in {collection!r}.")
    if failed:
        raise typer.Exit(1)


def _until_settled(client: Client, uploaded: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = uploaded.get("document", uploaded)
    path = f"/api/v1/collections/{document['collection_id']}/documents/{document['id']}"
    until = time.monotonic() + _DOCUMENT_SECONDS
    while document["state"].lower() not in ("ready", "failed") and time.monotonic() < until:
        time.sleep(0.2)
        document = client.get(path)
    return document


@app.command()
def search(
    query: str,
    collection: Annotated[str, typer.Option(help="collection by id or name")] = "default",
    data_dir: DataDir = None,
    url: Url = "",
    key: Key = "",
) -> None:
    """Find passages."""
    found = _client(data_dir, url, key).post(f"/api/v1/collections/{collection}/search", {"query": query})
    for number, hit in enumerate(found["hits"], start=1):
        out.print(f"[bold]{number}. {hit['title']}[/bold] [dim]{hit['similarity']:.2f}[/dim]", highlight=False)
        out.print(hit["text"], markup=False, highlight=False)


@keys.command("create")
def create_key(name: str, data_dir: DataDir = None, url: Url = "", key: Key = "") -> None:
    """Make an API key; it is shown once."""
    out.print_json(data=_client(data_dir, url, key).post("/api/v1/admin/keys", {"name": name}))


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


def main() -> None:
    """Runs the command line; a known error is one line and exit status 1."""
    try:
        app()
    except (LaunchError, ApiError) as error:
        sys.stderr.write(f"errand: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
