"""Chat, documents and search."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from errand_cli import up as launcher
from errand_cli.client import ApiError, Client
from errand_cli.commands.options import DataDir, Key, Url, client_of, out

app = typer.Typer()
_DOCUMENT_SECONDS = 600


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
    for name, data in client_of(data_dir, url, key).chat(message, agent=agent, conversation_id=conversation):
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
    client = client_of(data_dir, url, key)
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
    found = client_of(data_dir, url, key).post(f"/api/v1/collections/{collection}/search", {"query": query})
    for number, hit in enumerate(found["hits"], start=1):
        out.print(f"[bold]{number}. {hit['title']}[/bold] [dim]{hit['similarity']:.2f}[/dim]", highlight=False)
        out.print(hit["text"], markup=False, highlight=False)
