"""`errand ingest` and `errand search`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from errand_cli import up as launcher
from errand_cli.client import ApiError, Client
from errand_cli.commands.options import AsJson, DataDir, Key, Url, client_of, out

app = typer.Typer()
_DOCUMENT_SECONDS = 600
_FIRST_LOOK_SECONDS = 0.2
_LAST_LOOK_SECONDS = 2.0
_ENDED = ("ready", "failed", "cancelled")

Metadata = Annotated[
    list[str] | None,
    typer.Option("--metadata", "-m", help="NAME=VALUE for every document; numbers, true and false are taken as such"),
]


@dataclass(frozen=True, slots=True)
class Source:
    """A file and what its document is called."""

    path: Path
    name: str


@app.command()
def ingest(
    paths: Annotated[list[Path], typer.Argument(exists=True, help="files or folders")],
    collection: Annotated[str, typer.Option(help="collection by id or name")] = "default",
    metadata: Metadata = None,
    priority: Annotated[int, typer.Option(min=0, max=9, help="higher is ingested sooner")] = 0,
    include: Annotated[str, typer.Option(help="names taken from folders, such as '*.md'")] = "*",
    jobs: Annotated[int, typer.Option(min=1, max=16, help="documents on their way at a time")] = 4,
    data_dir: DataDir = None,
    url: Url = "",
    key: Key = "",
) -> None:
    """Upload documents and wait until they can be found; of folders all that is in them, hidden files left out.

    A file in a folder of a folder is named by its path, so that equal names do not replace each other.
    """
    sources = [source for path in paths for source in _sources(path, include)]
    if not sources:
        raise typer.BadParameter(f"no file there is named {include!r}; hidden files are left out", param_hint="PATHS")
    fields = {"metadata": json.dumps(named_values(metadata)), "priority": str(priority)}
    client = client_of(data_dir, url, key)
    client.ensure_collection(collection)
    failed = 0
    with _progress() as progress, ThreadPoolExecutor(jobs) as pool:
        bar = progress.add_task("ingesting", total=len(sources))
        ends = {pool.submit(_ingest, client, collection, source, fields): source for source in sources}
        for end in as_completed(ends):
            if reason := end.result():
                failed += 1
                out.print(f"{ends[end].path}: {reason}", markup=False)
            progress.advance(bar)
    out.print(f"{len(sources) - failed} of {len(sources)} documents are ready in {collection!r}.")
    if failed:
        raise typer.Exit(1)


def _sources(path: Path, include: str) -> Iterator[Source]:
    if path.is_file():
        yield Source(path, path.name)
        return
    for file in sorted(path.rglob(include)):
        parts = file.relative_to(path).parts
        if file.is_file() and not any(part.startswith(".") for part in parts):
            yield Source(file, " - ".join(parts))


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=launcher.console)


def _ingest(client: Client, collection: str, source: Source, fields: dict[str, str]) -> str:
    """Uploads and waits; why it failed, or nothing."""
    until = time.monotonic() + _DOCUMENT_SECONDS
    try:
        document = _patiently(lambda: client.upload(collection, source.path, name=source.name, **fields), until)
        return _settled(client, document["document"], until)
    except (ApiError, OSError) as error:
        return str(error) or type(error).__name__


def _settled(client: Client, document: dict[str, Any], until: float) -> str:
    path = f"/api/v1/collections/{document['collection_id']}/documents/{document['id']}"
    pause = _FIRST_LOOK_SECONDS
    while document["state"] not in _ENDED:
        if time.monotonic() > until:
            return f"still {document['state']} after {_DOCUMENT_SECONDS} s; `errand rag documents` tells how it goes on"
        time.sleep(pause)
        pause = min(pause * 1.5, _LAST_LOOK_SECONDS)
        document = _patiently(lambda: client.get(path), until)
    return "" if document["state"] == "ready" else str(document["failure"] or document["state"])


def _patiently(call: Any, until: float) -> dict[str, Any]:
    """What the call gives; one that is too early is made again when it may, until the time is over."""
    while True:
        try:
            answer: dict[str, Any] = call()
        except ApiError as error:
            if error.retry_after_seconds is None or time.monotonic() + error.retry_after_seconds > until:
                raise
            time.sleep(error.retry_after_seconds)
        else:
            return answer


def named_values(given: list[str] | None) -> dict[str, Any]:
    """NAME=VALUE pairs, values read as JSON where they are; raises BadParameter."""
    values: dict[str, Any] = {}
    for pair in given or ():
        name, sign, text = pair.partition("=")
        if not sign:
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        values[name] = value if isinstance(value, str | int | float | bool) else text
    return values


@app.command()
def search(
    query: str,
    collection: Annotated[list[str] | None, typer.Option(help="by id or name; again for more; none for all")] = None,
    top: Annotated[int, typer.Option(min=1, max=50, help="passages wanted")] = 5,
    mode: Annotated[str, typer.Option(help="hybrid, vector or keyword")] = "hybrid",
    where: Annotated[str, typer.Option("--filter", help='JSON, such as {"field": "year", "value": 2025}')] = "",
    min_similarity: Annotated[float, typer.Option(min=-1, max=1, help="leave out passages less similar")] = 0.0,
    diversity: Annotated[float, typer.Option(min=0, max=1, help="how much hits are to differ")] = 0.0,
    neighbours: Annotated[int, typer.Option(min=0, max=3, help="chunks before and after each hit")] = 0,
    rerank: Annotated[bool, typer.Option(help="let a cross-encoder read and order the best")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    url: Url = "",
    key: Key = "",
) -> None:
    """Find passages."""
    body = {
        "query": query,
        "collections": collection or [],
        "top_k": top,
        "mode": mode,
        "min_similarity": min_similarity,
        "diversity": diversity,
        "neighbours": neighbours,
        "rerank": rerank,
    }
    if where:
        body["filter"] = _filter(where)
    found = client_of(data_dir, url, key).post("/api/v1/search", body)
    if as_json:
        out.print_json(data=found)
        return
    if found["degraded"]:
        out.print("[yellow]embeddings are away: found by words alone[/yellow]")
    if rerank and not found["reranked"]:
        out.print("[yellow]the cross-encoder is away: in the order without it[/yellow]")
    for number, hit in enumerate(found["hits"], start=1):
        _print_hit(number, hit)


def _filter(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"is no JSON: {error}", param_hint="--filter") from error


def _print_hit(number: int, hit: dict[str, Any]) -> None:
    place = f"page {hit['page']}" if hit["page"] else hit["heading"]
    out.print(f"{number}. {hit['title']}", style="bold", markup=False, highlight=False, end=" ")
    read = "" if hit["rerank_score"] is None else f" ({hit['rerank_score']:.2f})"
    out.print(f"{place} {hit['similarity']:.2f}{read}".strip(), style="dim", markup=False, highlight=False)
    for text in (hit["text_before"], hit["text"], hit["text_after"]):
        if text:
            out.print(text, markup=False, highlight=False)
