"""`errand rag`: collections, their documents, upkeep, proven deletion, search quality."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table

from errand_cli.client import ApiError
from errand_cli.commands.documents import Metadata, named_values
from errand_cli.commands.options import AsJson, DataDir, Key, Url, client_of, out
from errand_cli.layout import Layout

app = typer.Typer(no_args_is_help=True, help="Collections, documents, search quality and upkeep.")
_POLL_SECONDS = 0.5

Name = Annotated[str, typer.Argument(help="collection by id or name")]
DocumentId = Annotated[str, typer.Argument(help="the document's id")]
Schema = Annotated[
    list[str] | None, typer.Option("--field", help="NAME=string|number|boolean: a field documents may carry")
]
Readers = Annotated[list[str] | None, typer.Option("--reader", help="role that may search it; again for more")]
Writers = Annotated[list[str] | None, typer.Option("--writer", help="role that may change it; again for more")]
MaxDocuments = Annotated[int | None, typer.Option(min=0, help="most documents; 0 for the tenant's bound alone")]
MaxBytes = Annotated[int | None, typer.Option(min=0, help="most bytes; 0 for the tenant's bound alone")]
Yes = Annotated[bool, typer.Option("--yes", help="do not ask")]


def _path(collection: str, *more: str) -> str:
    return "/".join(["/api/v1/collections", *(quote(part, safe="") for part in (collection, *more))])


@app.command("collections")
def list_collections(data_dir: DataDir = None, url: Url = "", key: Key = "", as_json: AsJson = False) -> None:
    """List the collections."""
    rows = client_of(data_dir, url, key).pages("/api/v1/collections")
    columns = ("name", "document_count", "size_bytes", "embedding_model", "id")
    _list(rows, ("name", "documents", "bytes", "embedding model", "id"), columns, as_json=as_json)


@app.command("show")
def show_collection(name: Name, data_dir: DataDir = None, url: Url = "", key: Key = "") -> None:
    """Show a collection."""
    out.print_json(data=client_of(data_dir, url, key).get(_path(name)))


@app.command("create")
def create_collection(
    name: Annotated[str, typer.Argument(help="3 to 63 letters, digits, '.', '_' and '-'")],
    description: str = "",
    chunk_tokens: Annotated[int, typer.Option(min=32, max=256)] = 200,
    chunk_overlap_tokens: Annotated[int, typer.Option(min=0, max=128)] = 0,
    field: Schema = None,
    reader: Readers = None,
    writer: Writers = None,
    max_documents: MaxDocuments = 0,
    max_bytes: MaxBytes = 0,
    data_dir: DataDir = None,
    url: Url = "",
    key: Key = "",
) -> None:
    """Make a collection."""
    body = {
        "name": name,
        "description": description,
        "chunk_tokens": chunk_tokens,
        "chunk_overlap_tokens": chunk_overlap_tokens,
        "metadata_schema": named_values(field),
        "reader_roles": reader or [],
        "writer_roles": writer or [],
        "max_documents": max_documents,
        "max_bytes": max_bytes,
    }
    out.print_json(data=client_of(data_dir, url, key).post("/api/v1/collections", body))


@app.command("change")
def change_collection(
    name: Name,
    description: Annotated[str | None, typer.Option()] = None,
    reader: Readers = None,
    writer: Writers = None,
    readers_open: Annotated[bool, typer.Option("--any-reader", help="no roles: everyone may search it")] = False,
    writers_open: Annotated[bool, typer.Option("--any-writer", help="no roles: everyone may change it")] = False,
    max_documents: MaxDocuments = None,
    max_bytes: MaxBytes = None,
    data_dir: DataDir = None,
    url: Url = "",
    key: Key = "",
) -> None:
    """Change description, roles and quotas of a collection; what is not named stays."""
    change = {
        "description": description,
        "reader_roles": [] if readers_open else reader,
        "writer_roles": [] if writers_open else writer,
        "max_documents": max_documents,
        "max_bytes": max_bytes,
    }
    body = {name_: value for name_, value in change.items() if value is not None}
    out.print_json(data=client_of(data_dir, url, key).patch(_path(name), body))


@app.command("documents")
def list_documents(
    name: Name,
    state: Annotated[str, typer.Option(help="only pending, processing, ready, failed or cancelled")] = "",
    data_dir: DataDir = None,
    url: Url = "",
    key: Key = "",
    as_json: AsJson = False,
) -> None:
    """List a collection's documents; --state failed lists the dead letters with their reason."""
    query = {"state": state} if state else {}
    rows = client_of(data_dir, url, key).pages(_path(name, "documents"), **query)
    columns = ("filename", "state", "progress_percent", "chunk_count", "id", "failure")
    _list(rows, ("file", "state", "%", "chunks", "id", "failure"), columns, as_json=as_json)


@app.command("fetch")
def fetch_document(
    name: Name,
    address: Annotated[str, typer.Argument(help="http or https, of a host that the operator allows")],
    filename: Annotated[str, typer.Option(help="what the document is called; default host and path")] = "",
    metadata: Metadata = None,
    priority: Annotated[int, typer.Option(min=0, max=9, help="higher is ingested sooner")] = 0,
    data_dir: DataDir = None,
    url: Url = "",
    key: Key = "",
) -> None:
    """Have a document fetched from a URL."""
    body = {"url": address, "filename": filename, "metadata": named_values(metadata), "priority": priority}
    stored = client_of(data_dir, url, key).post(_path(name, "documents", "fetch"), body)
    document = stored["document"]
    told = "was there already" if stored["duplicate"] else "is stored"
    out.print(f"{document['filename']} ({document['id']}) {told}.", markup=False, highlight=False)


@app.command("watch")
def watch_document(name: Name, document_id: DocumentId, data_dir: DataDir = None, url: Url = "", key: Key = "") -> None:
    """Follow a document until its ingestion ends."""
    events = client_of(data_dir, url, key).follow(_path(name, "documents", document_id, "events"))
    for event, data in events:
        if event == "error":
            raise ApiError(f"{data.get('code')}: {data.get('message')}")
        out.print(f"{data['state']} {data['progress_percent']} % {data['failure']}".rstrip(), markup=False)


@app.command("cancel")
def cancel_document(
    name: Name, document_id: DocumentId, data_dir: DataDir = None, url: Url = "", key: Key = ""
) -> None:
    """Stop a document's ingestion; `errand rag retry` tries it again."""
    document = client_of(data_dir, url, key).post(_path(name, "documents", document_id, "cancel"), {})
    out.print(f"{document['filename']} is {document['state']}.", markup=False)


@app.command("retry")
def retry(
    name: Name,
    document_id: Annotated[str, typer.Argument(help="none for all that failed or were cancelled")] = "",
    data_dir: DataDir = None,
    url: Url = "",
    key: Key = "",
) -> None:
    """Try failed and cancelled ingestions again."""
    client = client_of(data_dir, url, key)
    if document_id:
        client.post(_path(name, "documents", document_id, "retry"), {})
        retried = 1
    else:
        retried = client.post(_path(name, "retry"), {})["retried"]
    out.print(f"{retried} documents are tried again.")


@app.command("reindex")
def reindex(
    name: Name,
    model: Annotated[str, typer.Option(help="another embedding model")] = "",
    wait: Annotated[bool, typer.Option(help="until searches use the new index")] = True,
    data_dir: DataDir = None,
    url: Url = "",
    key: Key = "",
) -> None:
    """Build a collection's index anew while searches use the old one."""
    client = client_of(data_dir, url, key)
    collection = client.post(_path(name, "reindex"), {"embedding_model": model})
    with out.status("building") as status:
        while wait and (build := collection["reindex"]):
            status.update(f"{build['chunks_done']} of {build['chunks_total']} chunks")
            time.sleep(_POLL_SECONDS)
            collection = client.get(_path(name))
    if wait and model and collection["embedding_model"] != model:
        raise ApiError(f"the index was not built with {model!r}; the old one stays. Is the model served?")
    out.print("The new index is in use." if wait else "The new index is being built.")


@app.command("reconcile")
def reconcile(
    name: Name,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only count")] = False,
    data_dir: DataDir = None,
    url: Url = "",
    key: Key = "",
) -> None:
    """Compare a collection's text with its vectors and repair the vectors."""
    found = client_of(data_dir, url, key).post(_path(name, "reconcile"), {"dry_run": dry_run})
    out.print(f"{found['missing_vectors']} vectors were missing, {found['dead_vectors']} were dead.")
    out.print("They agree." if found["consistent"] else "They do not agree; run it again without --dry-run.")


@app.command("delete")
def delete(
    name: Name,
    document_id: Annotated[str, typer.Argument(help="none for the whole collection")] = "",
    yes: Yes = False,
    data_dir: DataDir = None,
    url: Url = "",
    key: Key = "",
) -> None:
    """Delete a document or a collection and print the certificate."""
    what = f"the document {document_id}" if document_id else f"the collection {name} with all its documents"
    if not yes:
        typer.confirm(f"Delete {what}?", abort=True)
    path = _path(name, "documents", document_id) if document_id else _path(name)
    _print_certificate(client_of(data_dir, url, key).delete(path))


@app.command("erase")
def erase(
    principal: Annotated[str, typer.Option(help="what this principal uploaded")] = "",
    tenant: Annotated[str, typer.Option(help="all documents; repeat your tenant's id")] = "",
    yes: Yes = False,
    data_dir: DataDir = None,
    url: Url = "",
    key: Key = "",
) -> None:
    """Delete all documents of a person or of the tenant and print the certificate."""
    if bool(principal) == bool(tenant):
        raise typer.BadParameter("give either --principal or --tenant")
    if not yes:
        typer.confirm(f"Delete all documents of {principal or tenant}?", abort=True)
    body = {"principal_id": principal} if principal else {"tenant_id": tenant}
    _print_certificate(client_of(data_dir, url, key).post("/api/v1/deletions", body))


@app.command("deletions")
def list_deletions(data_dir: DataDir = None, url: Url = "", key: Key = "", as_json: AsJson = False) -> None:
    """List the certificates of deletions, newest first."""
    rows = client_of(data_dir, url, key).pages("/api/v1/deletions")
    columns = ("id", "kind", "target_id", "documents", "requested_at", "complete")
    _list(rows, ("id", "what", "whose", "documents", "when", "proven"), columns, as_json=as_json)


@app.command("certificate")
def show_certificate(
    deletion_id: Annotated[str, typer.Argument(help="the certificate's id")],
    data_dir: DataDir = None,
    url: Url = "",
    key: Key = "",
) -> None:
    """Show the certificate of a deletion; what was not proven yet is looked for again."""
    _print_certificate(client_of(data_dir, url, key).get(f"/api/v1/deletions/{quote(deletion_id, safe='')}"))


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


def _print_certificate(certificate: dict[str, Any]) -> None:
    out.print_json(data=certificate)
    if not certificate["complete"]:
        out.print(f"Not all is proven yet; look again with `errand rag certificate {certificate['id']}`.")


def _list(rows: Iterable[dict[str, Any]], heads: tuple[str, ...], columns: tuple[str, ...], *, as_json: bool) -> None:
    """Prints the rows whole as JSON, or their columns under heads."""
    if as_json:
        out.print_json(data=list(rows))
        return
    table = Table(*heads, box=None, header_style="dim")
    for row in rows:
        table.add_row(*(_cell(row[column]) for column in columns))
    out.print(table)


def _cell(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
