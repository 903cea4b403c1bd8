"""Search and ingestion of the rag service in figures: `make bench-rag`.

    python bench/rag/run.py --parts pdf,ingestion,quality,search --chunks 1000,10000,100000 --output docs/benchmarks/rag

Search runs over real gRPC against a service with the embedded stores (SQLite, Chroma); chunks get
random clustered vectors and made-up words and are stored directly, so that only search is timed. The
query's embedding is a table look-up: its time is told apart by the evaluation. Beside it, in turns
with the same queries in the same run: a bare call to the same server, Chroma alone on the same vectors, and
LanceDB's own hybrid search on the same vectors and texts; both are called in the process, without service and network.
Recall is that of each index against an exact comparison with every vector. Ingestion is one document
from upload to READY, with the embedding model that is served by default, and the time inside that
model told apart. Parts that are not run keep what an earlier run found.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import matplotlib
import numpy as np
from errand.rag.v1 import rag_pb2
from errand_common.telemetry import configure_logging
from errand_common.testing.keys import TestKeys, free_port
from errand_inference.embeddings import MODEL_NAME, MiniLmEmbedder
from errand_inference.model_store import minilm_folder
from errand_rag import app
from errand_rag.domain.models import (
    Chunk,
    Embeddings,
    IngestedDocument,
    Quota,
    ReadDocument,
    ReadRequest,
    Upload,
    VectorEntry,
)
from errand_rag.evaluation.labelled import load
from errand_rag.evaluation.metrics import percentile
from errand_rag.evaluation.plotting import plot as plot_scores
from errand_rag.evaluation.scoring import table
from errand_rag.evaluation.session import evaluate
from errand_rag.parsers.process import ProcessReader, ReaderLimits
from errand_rag.settings import RagSettings
from errand_rag.storage.chroma import ChromaVectorStore
from errand_rag.storage.documents import SqlDocuments
from errand_rag.testing.client import RagClient
from errand_rag.testing.documents import make_pdf
from errand_rag.testing.service import serving_rag
from grpc_health.v1 import health_pb2, health_pb2_grpc
from matplotlib import pyplot

matplotlib.use("Agg")
MODEL, WIDTH, CENTRES = "random", 384, 200
PER_DOCUMENT, CLIENTS, TURNS = 500, 8, 4
# Queries that the clients share, a few seconds of them.
AT_ONCE = 1400
HYBRID = rag_pb2.SEARCH_MODE_HYBRID
MODES = {"hybrid": HYBRID, "vector": rag_pb2.SEARCH_MODE_VECTOR, "keyword": rag_pb2.SEARCH_MODE_KEYWORD}
QUANTILES = (("p50", 0.5), ("p99", 0.99))
MODEL_CACHE = Path(os.environ.get("ERRAND_INFERENCE_CACHE_DIR", ".cache/errand"))
GENERATOR = np.random.default_rng(7)
CENTRE = GENERATOR.normal(size=(CENTRES, WIDTH))
WORDS = [
    f"{a}{b}{c}"
    for a in ("ba", "ko", "li", "mu", "ne", "sa", "ti", "vo")
    for b in "rstlnm"
    for c in ("an", "el", "io", "ur", "ak", "ot", "im", "es", "ard", "ung")
]


def vectors_of(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Unit vectors around common centres, as texts of common topics are."""
    made = CENTRE[GENERATOR.integers(0, CENTRES, count)] + 0.8 * GENERATOR.normal(size=(count, WIDTH))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def text_of(random_: random.Random, words: int = 150) -> str:
    """About 200 tokens of words whose frequencies fall as those of a language do."""
    return " ".join(WORDS[min(int(random_.paretovariate(0.6)) - 1, len(WORDS) - 1)] for _ in range(words))


def texts_of(start: int, count: int) -> list[str]:
    """The texts of the chunks from `start` on, the same each time."""
    random_ = random.Random(start)
    return [text_of(random_) for _ in range(count)]


class TableEmbedder:
    """Gives a prepared vector for each query."""

    def __init__(self) -> None:
        self.table: dict[str, Sequence[float]] = {}

    async def embed(self, texts: Sequence[str], *, model: str) -> Embeddings:
        return Embeddings(vectors=tuple(tuple(self.table[text]) for text in texts), model=MODEL)


class ServedEmbedder:
    """The default embedding model, in this process; `seconds` is the time spent in it."""

    def __init__(self) -> None:
        self._model = MiniLmEmbedder(minilm_folder(MODEL_CACHE, "int8"), threads=os.cpu_count() or 1)
        self.seconds = 0.0

    async def embed(self, texts: Sequence[str], *, model: str) -> Embeddings:
        began = time.perf_counter()
        vectors, _ = await self._model.embed(texts)
        self.seconds += time.perf_counter() - began
        return Embeddings(vectors=tuple(tuple(map(float, vector)) for vector in vectors), model=MODEL_NAME)

    def close(self) -> None:
        self._model.close()


def settings_in(folder: str, **values: Any) -> tuple[RagSettings, TestKeys]:
    keys = TestKeys(Path(folder))
    return RagSettings(
        port=free_port(),
        data_dir=Path(folder),
        jwks=str(keys.jwks_file),
        signing_key_file=keys.signing_key_file,
        query_cache_entries=0,
        **values,
    ), keys


async def ingestion_row(chunks: int) -> dict[str, Any]:
    """Chunks of 200 tokens a second, and how much of the time is the embedding's."""
    random_ = random.Random(5)
    with tempfile.TemporaryDirectory() as folder:
        settings, keys = settings_in(folder)
        embedder = ServedEmbedder()
        async with serving_rag(settings, keys, embedder=embedder) as client:
            await client.collection("bench", chunk_tokens=200)
            await client.ingest("bench", "warm.txt", text_of(random_))
            # The made-up words are about two tokens each.
            content, embedder.seconds = "\n\n".join(text_of(random_, 95) + "." for _ in range(chunks)), 0.0
            began = time.perf_counter()
            uploaded = await client.upload("bench", "book.txt", content)
            document = await client.settled(uploaded.document.id, timeout_seconds=1800)
            seconds = time.perf_counter() - began
        embedder.close()
    assert document.state == rag_pb2.DOCUMENT_STATE_READY
    return {
        "chunks": document.chunk_count,
        "chunks_per_s": document.chunk_count / seconds,
        "embedding_share": embedder.seconds / seconds,
        "chunks_per_s_besides_embedding": document.chunk_count / (seconds - embedder.seconds),
    }


async def fill(settings: RagSettings, store: ChromaVectorStore, collection: str, start: int, count: int) -> Any:
    """Stores documents of 500 chunks with rows and vectors; gives the vectors."""
    database, texts = app.open_database(settings), texts_of(start, count)
    documents = SqlDocuments(database, owner="bench")
    made = vectors_of(count)
    for first in range(0, count, PER_DOCUMENT):
        upload = Upload(collection, f"{start + first}.txt", b"x", f"{start + first}")
        stored, _ = await documents.add("default", upload, principal_id="bench", quota=Quota(0, 0))
        chunks = []
        for index in range(min(PER_DOCUMENT, count - first)):
            text = texts[first + index]
            chunks.append(Chunk(f"chk_{start + first + index:012d}", index, text, 0, len(text), "", None))
        read = ReadDocument(
            title=f"Report {start + first}", media_type="text/plain", clean_text="", chunks=tuple(chunks)
        )
        await documents.complete("default", IngestedDocument(stored.id, read, MODEL), principal_id="bench")
        entries = [VectorEntry(c.id, stored.id, made[first + c.index].tolist()) for c in chunks]
        await store.upsert(collection, entries)
    await database.close()
    return made


async def timed(client: RagClient, queries: Sequence[str], mode: rag_pb2.SearchMode) -> list[float]:
    times = []
    for query in queries:
        began = time.perf_counter()
        answer = await client.search(query, "bench", mode=mode, top_k=10)
        times.append((time.perf_counter() - began) * 1000)
        assert answer.hits
        assert not answer.degraded
    return times


class Lance:
    """LanceDB in a process of an environment of its own, asked by lines."""

    def __init__(self, python: Path, folder: Path) -> None:
        self._folder = folder
        command = [str(python), str(Path(__file__).with_name("lancedb_peer.py"))]
        quiet = {**os.environ, "RUST_LOG": "error"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=quiet
        )

    def _ask(self, command: dict[str, str]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def add(self, vectors: Any, texts: Sequence[str]) -> float:
        """Stores and indexes; gives the seconds."""
        np.save(self._folder / "vectors.npy", vectors)
        (self._folder / "texts.json").write_text(json.dumps(texts))
        return float(self._ask({"add": str(self._folder)})["seconds"])

    def search(self, queries: Any, words: Sequence[str], mode: str) -> tuple[list[float], list[list[str]]]:
        """Milliseconds and ids of each query."""
        np.save(self._folder / "queries.npy", queries)
        (self._folder / "queries.json").write_text(json.dumps(words))
        answer = self._ask({"search": str(self._folder), "mode": mode})
        return answer["ms"], answer["ids"]

    def close(self) -> None:
        self._process.communicate()


class Times:
    """Milliseconds by what was timed."""

    def __init__(self) -> None:
        self._all: dict[str, list[float]] = {}

    def add(self, name: str, times: Sequence[float]) -> None:
        self._all.setdefault(name, []).extend(times)

    def row(self) -> dict[str, float]:
        return {f"{name}_{label}_ms": percentile(t, q) for name, t in self._all.items() for label, q in QUANTILES}


async def search_rows(sizes: Sequence[int], queries: int, python: Path) -> AsyncIterator[dict[str, Any]]:
    """A row of figures for each size of the collection."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as exchange:
        settings, keys = settings_in(folder, worker_concurrency=0)
        store, embedder = ChromaVectorStore.embedded(settings.chroma_folder), TableEmbedder()
        lance = Lance(python, Path(exchange))
        async with serving_rag(settings, keys, embedder=embedder, vectors=store) as client:
            collection = (await client.collection("bench")).id
            known, random_ = np.empty((0, WIDTH), np.float32), random.Random(1)
            for size in sizes:
                began, start = time.perf_counter(), len(known)
                added = await fill(settings, store, collection, start, size - start)
                seconds, known = time.perf_counter() - began, np.concatenate([known, added])
                row: dict[str, Any] = {"chunks": size, "store_per_s": len(added) / seconds}
                row["lancedb_store_per_s"] = len(added) / lance.add(added, texts_of(start, len(added)))
                # Others for the clients at once: what a search remembers of a query's words is not theirs.
                count = queries + AT_ONCE
                wanted = vectors_of(count)
                texts = [f"{size} {number} " + " ".join(random_.sample(WORDS[20:], 5)) for number in range(count)]
                embedder.table.update(zip(texts, wanted.tolist(), strict=True))
                row |= await in_turns(
                    client, store, collection, lance, known, wanted[:queries], texts[:queries], settings.port
                )
                texts = texts[queries:]
                row |= await rates(settings, keys, texts)
                yield row
        lance.close()


async def rates(settings: RagSettings, keys: TestKeys, texts: Sequence[str]) -> dict[str, float]:
    """Searches and bare calls a second of several clients at once, in a process of their own."""
    command = [
        str(Path(__file__).with_name("clients.py")),
        str(settings.port),
        str(keys.signing_key_file),
        str(CLIENTS),
    ]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    answer, _ = await process.communicate(json.dumps(texts).encode())
    found: dict[str, float] = json.loads(answer)
    return found


async def in_turns(
    client: RagClient,
    store: ChromaVectorStore,
    collection: str,
    lance: Lance,
    known: Any,
    wanted: Any,
    texts: list[str],
    port: int,
) -> dict[str, Any]:
    """Everybody's times with the same queries, a few of them at a time, and the recall of the vectors."""
    await timed(client, texts[:20], HYBRID)
    lance.search(wanted[:20], texts[:20], "hybrid")
    times, chroma, lances = Times(), [], []
    for turn in range(TURNS):
        part, vectors = texts[turn::TURNS], wanted[turn::TURNS]
        exact = [{f"chk_{index:012d}" for index in np.argsort(-(known @ vector))[:10]} for vector in vectors]
        for name, mode in MODES.items():
            times.add(name, await timed(client, part, mode))
        found = await bare_chroma(store, collection, vectors, times)
        times.add("bare_hop", await bare_hops(port, len(part)))
        chroma += [len(a & b) / 10 for a, b in zip(exact, found, strict=True)]
        for mode_name in MODES:
            spent, ids = lance.search(vectors, part, mode_name)
            times.add(f"lancedb_{mode_name}", spent)
            if mode_name == "vector":
                lances += [len(a & set(b)) / 10 for a, b in zip(exact, ids, strict=True)]
    return times.row() | {"vector_recall_at_10": np.mean(chroma).item(), "lancedb_recall_at_10": np.mean(lances).item()}


async def bare_hops(port: int, calls: int) -> list[float]:
    """A call to the same server that no service answers, one after the other."""
    times = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        await stub.Check(health_pb2.HealthCheckRequest())
        for _ in range(calls):
            began = time.perf_counter()
            await stub.Check(health_pb2.HealthCheckRequest())
            times.append((time.perf_counter() - began) * 1000)
    return times


async def bare_chroma(store: ChromaVectorStore, collection: str, wanted: Any, times: Times) -> list[set[str]]:
    """The ten nearest by the index alone."""
    found = []
    for vector in wanted.tolist():
        began = time.perf_counter()
        matches = await store.query(collection, vector, 10)
        times.add("chroma", [(time.perf_counter() - began) * 1000])
        found.append({match.chunk_id for match in matches})
    return found


async def quality() -> tuple[dict[str, Any], Any]:
    """The labelled set's scores with the embedding model that is served by default."""
    with tempfile.TemporaryDirectory() as folder:
        settings, keys = settings_in(folder)
        embedder = ServedEmbedder()
        async with serving_rag(settings, keys, embedder=embedder) as client:
            scores = await evaluate(client, load())
        embedder.close()
    return {"table": table(scores)}, scores


async def pdf_row() -> dict[str, Any]:
    """Time and memory of reading a PDF of 500 pages, in the reader's own process."""
    random_ = random.Random(3)
    content = make_pdf([text_of(random_, 300) for _ in range(500)])
    reader = ProcessReader(ReaderLimits(processes=1))
    request = ReadRequest("doc_bench", "bench.pdf", 200, 0, 5000, 10_000_000, 20_000)
    await reader.read(make_pdf(["warm"]), request)
    began = time.perf_counter()
    read = await reader.read(content, request)
    seconds = time.perf_counter() - began
    await reader.close()
    # Of all ended children the largest: the reader is the only one.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"pdf_pages": 500, "pdf_seconds": seconds, "pdf_chunks": len(read.chunks), "pdf_peak_mib": peak}


def plot(rows: Sequence[dict[str, Any]], file: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(7, 4))
    sizes = [row["chunks"] for row in rows]
    for name in MODES:
        axes.plot(sizes, [row[f"{name}_p50_ms"] for row in rows], marker="o", label=f"{name} p50")
    axes.plot(sizes, [row["hybrid_p99_ms"] for row in rows], "k--", marker=".", label="hybrid p99")
    lance = [row for row in rows if "lancedb_hybrid_p50_ms" in row]
    p50 = [row["lancedb_hybrid_p50_ms"] for row in lance]
    axes.plot([row["chunks"] for row in lance], p50, ":", marker="s", label="LanceDB hybrid p50")
    axes.plot(sizes, [row["chroma_p50_ms"] for row in rows], ":", marker="^", label="Chroma alone p50")
    axes.set(xscale="log", xlabel="chunks", ylabel="ms over gRPC", title="Search without the query's embedding")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(file)


def of_search(result: dict[str, Any]) -> list[str]:
    rows = result["rows"]
    lines = ["## Search", "", measured(result), "", "| | " + " | ".join(f"{r['chunks']:,}" for r in rows) + " |"]
    lines.append("|---|" + "---|" * len(rows))
    for name in [name for name in rows[0] if name != "chunks"]:
        # A peer that was not there has no figures.
        lines.append(f"| {name} | " + " | ".join(f"{row[name]:,.2f}" if name in row else "-" for row in rows) + " |")
    return [*lines, "", "![growth](rag.svg)"]


def of_ingestion(result: dict[str, Any]) -> list[str]:
    return [
        "## Ingestion",
        "",
        measured(result),
        "",
        (
            f"{result['chunks']} chunks of 200 tokens: {result['chunks_per_s']:.0f} a second; "
            f"{result['embedding_share']:.0%} of the time is the embedding model's, without it "
            f"{result['chunks_per_s_besides_embedding']:.0f} a second."
        ),
    ]


def of_pdf(result: dict[str, Any]) -> list[str]:
    return [
        "## A PDF of 500 pages",
        "",
        measured(result),
        "",
        f"{result['pdf_seconds']:.2f} s, {result['pdf_chunks']} chunks, {result['pdf_peak_mib']:.0f} MiB in the reader",
    ]


def of_quality(result: dict[str, Any]) -> list[str]:
    return [
        "## Quality on the labelled set",
        "",
        measured(result),
        "",
        result["table"],
        "",
        "![quality](rag-quality.svg)",
    ]


PARTS = {"pdf": of_pdf, "ingestion": of_ingestion, "quality": of_quality, "search": of_search}


def measured(result: dict[str, Any]) -> str:
    return f"Measured {result['at']} on {result['machine']}; load average at its start {result['load'][0]:.1f}."


def write(results: dict[str, Any], output: Path, notes: Path) -> None:
    """The figures of all parts that were ever run, as JSON, as a page below the notes, as a plot."""
    output.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")
    lines = ["# Rag: search and ingestion", "", "Made by `make bench-rag`.", ""]
    lines += [notes.read_text().strip(), ""] if notes.exists() else []
    for name in reversed(PARTS):
        lines += [*PARTS[name](results[name]), ""] if name in results else []
    output.with_suffix(".md").write_text("\n".join(lines))
    if "search" in results:
        plot(results["search"]["rows"], output.with_suffix(".svg"))


async def run(part: str, arguments: argparse.Namespace) -> AsyncIterator[dict[str, Any]]:
    """What a part found, as often as it found something more: the largest size takes most of the time."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    about = {"at": time.strftime("%Y-%m-%d"), "machine": machine, "load": os.getloadavg()}
    if part == "pdf":
        yield about | await pdf_row()
    elif part == "quality":
        result, scores = await quality()
        plot_scores(scores, arguments.output.with_name("rag-quality.svg"))
        yield about | result
    elif part == "ingestion":
        yield about | await ingestion_row(arguments.ingest)
    else:
        rows, sizes = [], [int(size) for size in arguments.chunks.split(",")]
        async for row in search_rows(sizes, arguments.queries, arguments.lancedb):
            rows.append(row)
            yield about | {"rows": rows}


async def main() -> None:
    configure_logging("rag", "WARNING", "json")
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", default=",".join(PARTS), help="of pdf, ingestion, quality, search")
    parser.add_argument("--chunks", default="1000,10000,100000")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--ingest", type=int, default=600, help="chunks that are embedded and stored")
    parser.add_argument("--lancedb", type=Path, default=Path(".cache/rag-peers/bin/python"))
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/rag"))
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    kept = arguments.output.with_suffix(".json")
    results = json.loads(kept.read_text()) if kept.exists() else {}
    for part in arguments.parts.split(","):
        async for found in run(part, arguments):
            results[part] = found
            print(part, json.dumps(found), flush=True)
            write(results, arguments.output, Path(__file__).with_name("notes.md"))


if __name__ == "__main__":
    asyncio.run(main())
