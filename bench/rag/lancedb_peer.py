"""LanceDB as a peer: reads one JSON command a line, answers with one JSON line. Runs in an environment of its own.

{"add": FOLDER}                        vectors.npy and texts.json of FOLDER are stored, then indexed
{"search": FOLDER, "mode": "hybrid"}   queries.npy and queries.json are searched one by one; ids and ms of each
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import FTS, HnswSq
from lancedb.rerankers import RRFReranker

HITS = 10


def rows(folder: Path, start: int) -> pa.Table:
    vectors = np.load(folder / "vectors.npy")
    texts = json.loads((folder / "texts.json").read_text())
    ids = [f"chk_{start + index:012d}" for index in range(len(texts))]
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1])
    return pa.table({"id": ids, "text": texts, "vector": flat})


class Peer:
    """One table with a vector index (HNSW) and a full-text index."""

    def __init__(self, folder: str) -> None:
        self.connection = lancedb.connect(folder)
        self.table = None
        self.reranker = RRFReranker()

    def add(self, folder: Path) -> dict:
        began = time.perf_counter()
        start = 0 if self.table is None else self.table.count_rows()
        added = rows(folder, start)
        if self.table is None:
            self.table = self.connection.create_table("bench", added)
        else:
            self.table.add(added)
        # One partition: the graph alone decides, as in the other stores.
        graph = HnswSq(distance_type="cosine", num_partitions=1, m=24, ef_construction=200)
        self.table.create_index("vector", config=graph)
        self.table.create_index("text", config=FTS())
        return {"seconds": time.perf_counter() - began}

    def search(self, folder: Path, mode: str) -> dict:
        vectors, words = np.load(folder / "queries.npy"), json.loads((folder / "queries.json").read_text())
        times, ids = [], []
        for vector, text in zip(vectors, words, strict=True):
            began = time.perf_counter()
            if mode == "hybrid":
                query = self.table.search(query_type="hybrid").vector(vector).text(text).ef(200).rerank(self.reranker)
            elif mode == "keyword":
                query = self.table.search(text, query_type="fts")
            else:
                query = self.table.search(vector).metric("cosine").ef(200)
            found = query.limit(HITS).select(["id", "text"]).to_list()
            times.append((time.perf_counter() - began) * 1000)
            ids.append([hit["id"] for hit in found])
        return {"ms": times, "ids": ids}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        peer = Peer(folder)
        for line in sys.stdin:
            command = json.loads(line)
            if "add" in command:
                answer = peer.add(Path(command["add"]))
            else:
                answer = peer.search(Path(command["search"]), command["mode"])
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
