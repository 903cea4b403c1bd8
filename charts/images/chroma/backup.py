"""backup.py dump FOLDER | restore FOLDER [NAME]: the collections of a Chroma server beside a backup of the databases.

A dump goes into the newest backup; what changes meanwhile is mended by the rag service, which compares rows with
vectors. A restore takes the newest backup unless one is named, and leaves no collection that it does not hold.
"""

import base64
import gzip
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
from chromadb.api import ClientAPI

FILE = "vectors.jsonl.gz"
PAGE = 500


def pages(client: ClientAPI) -> Iterator[dict[str, Any]]:
    """A line for each collection, and one for each page of its vectors."""
    for collection in client.list_collections():
        index = collection.configuration_json["hnsw"]
        yield {"collection": collection.name, "metadata": collection.metadata, "hnsw": index}
        for offset in range(0, collection.count(), PAGE):
            found = collection.get(limit=PAGE, offset=offset, include=["embeddings", "metadatas"])
            vectors = np.asarray(found["embeddings"], dtype="<f4")
            packed = base64.b64encode(vectors.tobytes()).decode()
            yield {"ids": found["ids"], "metadatas": found["metadatas"], "vectors": packed}


def dump(client: ClientAPI, backup: Path) -> int:
    """Writes all collections; gives their number."""
    unfinished, count = backup / f"{FILE}.partial", 0
    with gzip.open(unfinished, "wt") as file:
        for page in pages(client):
            count += "collection" in page
            file.write(json.dumps(page) + "\n")
    unfinished.replace(backup / FILE)
    return count


def restore(client: ClientAPI, backup: Path) -> int:
    """Makes the collections anew; gives their number."""
    for collection in client.list_collections():
        client.delete_collection(collection.name)
    count, target = 0, None
    with gzip.open(backup / FILE, "rt") as file:
        for page in map(json.loads, file):
            if "collection" in page:
                count += 1
                target = client.create_collection(
                    page["collection"],
                    metadata=page["metadata"],
                    configuration={"hnsw": page["hnsw"]},
                    embedding_function=None,
                )
            elif target is not None and page["ids"]:
                vectors = np.frombuffer(base64.b64decode(page["vectors"]), dtype="<f4").reshape(len(page["ids"]), -1)
                target.add(ids=page["ids"], embeddings=vectors, metadatas=page["metadatas"])
    return count


def main() -> int:
    """Runs the command line."""
    command, folder, *names = sys.argv[1:]
    backups = sorted(path for path in Path(folder).iterdir() if path.name.endswith("Z"))
    backup = Path(folder) / names[0] if names and names[0] != "latest" else (backups or [Path(folder) / "none"])[-1]
    needed = backup if command == "dump" else backup / FILE
    if not needed.exists():
        sys.stderr.write(f"backup.py: {needed} is not there; backups: {', '.join(path.name for path in backups)}\n")
        return 1
    client = chromadb.HttpClient(host=os.environ["CHROMA_HOST"], port=int(os.environ.get("CHROMA_PORT", "8000")))
    count = (dump if command == "dump" else restore)(client, backup)
    sys.stdout.write(f"{command} of {count} collections: {backup / FILE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
