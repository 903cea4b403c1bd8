"""`errand ingest`, `errand search` and `errand rag …` against a gateway that really listens."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from errand_common.testing.keys import free_port
from errand_gateway.testing.gateway import ADMIN_KEY, RunningGateway

Errand = Callable[..., subprocess.CompletedProcess[str]]
Call = Callable[..., "asyncio.Future[subprocess.CompletedProcess[str]]"]


@pytest.fixture
def call(gateway: RunningGateway, errand: Errand) -> Call:
    """Runs a command against the gateway."""

    async def run(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = await asyncio.to_thread(errand, *arguments, "--url", gateway.url, "--key", ADMIN_KEY)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run


async def test_a_folder_is_ingested_with_its_subfolders(gateway: RunningGateway, call: Call, tmp_path: Path) -> None:
    papers = tmp_path / "papers"
    for name, text in {
        "README.md": "top",
        "guide/README.md": "nested",
        "guide/notes.txt": "notes",
        ".git/config": "hidden",
        "empty.md": "",
    }.items():
        (papers / name).parent.mkdir(parents=True, exist_ok=True)
        (papers / name).write_text(text)
    options = ("--collection", "shelf", "-m", "year=2025", "-m", "team=legal", "-m", "code=[1]", "--priority", "3")
    done = await call("ingest", str(papers), *options, status=1)
    assert "3 of 4 documents are ready in 'shelf'." in done.stdout
    assert "the document is empty" in done.stdout.replace("\n", " ")
    listed = json.loads((await call("rag", "documents", "shelf", "--json")).stdout)
    assert {row["filename"] for row in listed} == {"README.md", "guide - README.md", "guide - notes.txt"}
    assert listed[0]["metadata"] == {"year": 2025, "team": "legal", "code": "[1]"}
    assert {header.priority for header in gateway.backend.rag.headers} == {3}
    only = await call("ingest", str(papers), "--collection", "other", "--include", "notes*")
    assert "1 of 1 documents are ready in 'other'." in only.stdout


async def test_nothing_to_ingest_and_a_gateway_that_is_away_are_told_in_a_line(
    gateway: RunningGateway, call: Call, errand: Errand, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("leave")
    none = await call("ingest", str(tmp_path), "--include", "*.md", "--collection", "none", status=2)
    assert "no file there is named '*.md'" in " ".join(none.stderr.replace("│", " ").split())
    assert gateway.backend.rag.headers == []
    url = f"http://127.0.0.1:{free_port()}"
    away = await asyncio.to_thread(errand, "ingest", str(tmp_path), "--url", url, "--key", ADMIN_KEY)
    assert away.returncode == 1
    assert away.stderr.startswith(f"errand: The gateway at {url} cannot be reached")
    assert len(away.stderr.splitlines()) == 1


async def test_search_takes_all_that_the_api_takes(gateway: RunningGateway, call: Call, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("thirty days of leave")
    await call("ingest", str(tmp_path / "a.txt"))
    shown = await call("search", "leave", "--neighbours", "1", "--diversity", "0.5", "--mode", "keyword")
    assert "1. a.txt" in shown.stdout
    assert "more" in shown.stdout
    assert "0.50 (0.75)" in (await call("search", "leave", "--rerank")).stdout
    assert "(0.75)" not in shown.stdout
    filter_ = '{"field": "year", "operator": "less", "value": 2025}'
    found = await call("search", "leave", "--collection", "default", "--filter", filter_, "--json")
    assert json.loads(found.stdout)["hits"][0]["filename"] == "a.txt"
    assert gateway.backend.rag.searches[-1].filter.condition.field == "year"
    wrong = await call("search", "leave", "--filter", "{", status=2)
    assert "is no JSON" in wrong.stderr
    refused = await call("search", "leave", "--filter", '{"field": "year"}', status=1)
    assert "INVALID_ARGUMENT" in refused.stderr


async def test_a_collection_from_making_to_its_certificate(gateway: RunningGateway, call: Call, tmp_path: Path) -> None:
    made = await call("rag", "create", "shelf", "--field", "year=number", "--reader", "legal", "--max-documents", "5")
    assert json.loads(made.stdout)["metadata_schema"] == {"year": "number"}
    changed = json.loads((await call("rag", "change", "shelf", "--any-reader", "--writer", "admin")).stdout)
    assert (changed["reader_roles"], changed["writer_roles"], changed["max_documents"]) == ([], ["admin"], 5)
    assert "shelf" in (await call("rag", "collections")).stdout
    (tmp_path / "slow.txt").write_text("leave")
    slow = await gateway.http.post(
        "/api/v1/collections/shelf/documents", files={"file": ("slow.txt", b"leave of absence")}
    )
    id_ = slow.json()["document"]["id"]
    assert "slow.txt is cancelled." in (await call("rag", "cancel", "shelf", id_)).stdout
    assert "cancelled 40 %" in (await call("rag", "watch", "shelf", id_)).stdout
    assert "1 documents are tried again." in (await call("rag", "retry", "shelf")).stdout
    assert "1 vectors were missing" in (await call("rag", "reconcile", "shelf", "--dry-run")).stdout
    assert "being built" in (await call("rag", "reindex", "shelf", "--no-wait")).stdout
    fetched = await call("rag", "fetch", "shelf", "https://example.com/guide", "-m", "year=2025")
    assert "page.html" in fetched.stdout
    certificate = json.loads((await call("rag", "delete", "shelf", id_, "--yes")).stdout)
    assert (certificate["kind"], certificate["complete"]) == ("document", True)
    assert json.loads((await call("rag", "certificate", certificate["id"])).stdout) == certificate
    await call("rag", "delete", "shelf", "--yes")
    await call("rag", "erase", "--principal", "usr_gone", "--yes")
    listed = json.loads((await call("rag", "deletions", "--json")).stdout)
    assert [row["kind"] for row in listed] == ["principal", "collection", "document"]
    assert "give either" in (await call("rag", "erase", "--yes", status=2)).stderr
