"""Search and ingestion of the rag service in figures: `make bench-rag`.

    python bench/rag/run.py --chunks 1000,10000,100000 --output docs/benchmarks/rag

Search runs over real gRPC against a service with the embedded stores (SQLite, Chroma); chunks get
random clustered vectors and made-up words and are stored directly, so that only search is timed. The
query's embedding is a table look-up: its time is told apart by the evaluation. Recall is that of
Chroma's index against an exact comparison with every vector, `chroma_p50_ms` Chroma alone on the same
vectors, without service, words and texts. Ingestion is one document from upload to READY, with the
embedding model that is served by default, and the time inside that model told apart.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from errand.rag.v1 import rag_pb2
from errand_common.telemetry import configure_logging
from errand_common.testing.keys import TestKeys
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
from errand_rag.evaluation.metrics import percentile
from errand_rag.parsers.process import ProcessReader, ReaderLimits
from errand_rag.settings import RagSettings
from errand_rag.storage.chroma import ChromaVectorStore
from errand_rag.storage.documents import SqlDocuments
from errand_rag.testing.client import RagClient
from errand_rag.testing.documents import make_pdf
from errand_rag.testing.service import serving_rag
from matplotlib import pyplot

matplotlib.use("Agg")
MODEL, WIDTH, CENTRES = "random", 384, 200
PER_DOCUMENT, CLIENTS = 500, 8
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


class TableEmbedder:
    """Gives a prepared vector for each query."""

    def __init__(self) -> None:
        self.table: dict[str, Sequence[float]] = {}

    async def embed(self, texts: Sequence[str], *, model: str) -> Embeddings:
        return Embeddings(vectors=tuple(tuple(self.table[text]) for text in texts), model=MODEL)


class ServedEmbedder:
    """The default embedding model, in this process; `seconds` is the time spent in it."""

    def __init__(self) -> None:
        self._model = MiniLmEmbedder(minilm_folder(MODEL_CACHE), threads=os.cpu_count() or 1)
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
        port=0,
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
    database, random_ = app.open_database(settings), random.Random(start)
    documents = SqlDocuments(database, owner="bench")
    made = vectors_of(count)
    for first in range(0, count, PER_DOCUMENT):
        upload = Upload(collection, f"{start + first}.txt", b"x", f"{start + first}")
        stored, _ = await documents.add("default", upload, principal_id="bench", quota=Quota(0, 0))
        chunks = []
        for index in range(min(PER_DOCUMENT, count - first)):
            text = text_of(random_)
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


async def search_rows(sizes: Sequence[int], queries: int) -> list[dict[str, Any]]:
    """A row of figures for each size of the collection."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        settings, keys = settings_in(folder, worker_concurrency=0)
        store, embedder = ChromaVectorStore.embedded(settings.chroma_folder), TableEmbedder()
        async with serving_rag(settings, keys, embedder=embedder, vectors=store) as client:
            collection = (await client.collection("bench")).id
            known, random_ = np.empty((0, WIDTH), np.float32), random.Random(1)
            for size in sizes:
                began = time.perf_counter()
                added = await fill(settings, store, collection, len(known), size - len(known))
                seconds, known = time.perf_counter() - began, np.concatenate([known, added])
                wanted = vectors_of(queries)
                texts = [f"{size} {number} " + " ".join(random_.sample(WORDS[20:], 5)) for number in range(queries)]
                embedder.table.update(zip(texts, wanted.tolist(), strict=True))
                row: dict[str, Any] = {"chunks": size, "store_per_s": len(added) / seconds}
                await timed(client, texts[:20], rag_pb2.SEARCH_MODE_HYBRID)
                for name, mode in (("hybrid", 1), ("vector", 2), ("keyword", 3)):
                    times = await timed(client, texts, mode)  # type: ignore[arg-type]
                    row |= {f"{name}_p50_ms": percentile(times, 0.5), f"{name}_p99_ms": percentile(times, 0.99)}
                began = time.perf_counter()
                await asyncio.gather(*(timed(client, texts[n::CLIENTS], 1) for n in range(CLIENTS)))  # type: ignore[arg-type]
                row["searches_per_s_8_clients"] = queries / (time.perf_counter() - began)
                row |= await bare_chroma(store, collection, known, wanted)
                rows.append(row)
                print(json.dumps(row), flush=True)
    return rows


async def bare_chroma(store: ChromaVectorStore, collection: str, known: Any, wanted: Any) -> dict[str, float]:
    """Time of the index alone, and the share of the exact ten nearest that it finds."""
    shares, times = [], []
    for vector in wanted:
        exact = {f"chk_{index:012d}" for index in np.argsort(-(known @ vector))[:10]}
        began = time.perf_counter()
        matches = await store.query(collection, vector.tolist(), 10)
        times.append((time.perf_counter() - began) * 1000)
        shares.append(len(exact & {match.chunk_id for match in matches}) / 10)
    return {"chroma_p50_ms": percentile(times, 0.5), "vector_recall_at_10": float(np.mean(shares))}


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
    for name in ("hybrid", "vector", "keyword"):
        axes.plot([r["chunks"] for r in rows], [r[f"{name}_p50_ms"] for r in rows], marker="o", label=f"{name} p50")
    axes.plot([r["chunks"] for r in rows], [r["hybrid_p99_ms"] for r in rows], "k--", marker=".", label="hybrid p99")
    axes.set(xscale="log", xlabel="chunks", ylabel="ms over gRPC", title="Search without the query's embedding")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(file)


def table(result: dict[str, Any]) -> str:
    rows = result["search"]
    names = list(rows[0])
    lines = ["# Rag: search and ingestion", "", f"Measured on {result['machine']}; load average {result['load']}.", ""]
    lines += ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(f"{row[name]:,.2f}".rstrip("0").rstrip(".") for name in names) + " |" for row in rows]
    pdf, ingestion = result["pdf"], result["ingestion"]
    lines += [
        "",
        f"A PDF of 500 pages: {pdf['pdf_seconds']:.2f} s, {pdf['pdf_chunks']} chunks, {pdf['pdf_peak_mib']:.0f} MiB.",
        "",
        (
            f"Ingestion of {ingestion['chunks']} chunks of 200 tokens: {ingestion['chunks_per_s']:.0f} a second; "
            f"{ingestion['embedding_share']:.0%} of the time is the embedding model's, "
            f"without it {ingestion['chunks_per_s_besides_embedding']:.0f} a second."
        ),
        "",
        "![growth](rag.svg)",
        "",
        "Made by `make bench-rag`.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    configure_logging("rag", "WARNING", "json")
    parser = argparse.ArgumentParser()
    parser.add_argument("--chunks", default="1000,10000,100000")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--ingest", type=int, default=600, help="chunks that are embedded and stored")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/rag"))
    arguments = parser.parse_args()
    pdf = asyncio.run(pdf_row())
    print(json.dumps(pdf), flush=True)
    ingestion = asyncio.run(ingestion_row(arguments.ingest))
    print(json.dumps(ingestion), flush=True)
    rows = asyncio.run(search_rows([int(size) for size in arguments.chunks.split(",")], arguments.queries))
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    result = {"machine": machine, "load": os.getloadavg(), "pdf": pdf, "ingestion": ingestion, "search": rows}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    arguments.output.with_suffix(".md").write_text(table(result))
    plot(rows, arguments.output.with_suffix(".svg"))


if __name__ == "__main__":
    main()
