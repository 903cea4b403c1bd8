"""The chart's own scripts, run: what they say when something is wrong, and that they end when it is not."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from errand_common.testing.keys import free_port

from tests.chart.rendering import CHART

FILES = CHART / "files"


def _run(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FILES / script), *arguments]
    return subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60, check=False
    )


def _first_line(script: str, *arguments: str, **variables: str) -> str:
    """What a script that waits for ever says first."""
    command = [sys.executable, str(FILES / script), *arguments]
    with subprocess.Popen(command, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True) as waiting:
        try:
            assert waiting.stdout is not None
            return waiting.stdout.readline()
        finally:
            waiting.kill()


def test_a_database_that_is_away_is_named_without_its_password() -> None:
    port = free_port()
    url = f"postgresql+asyncpg://agent:canary-password@127.0.0.1:{port}/errand"
    said = _first_line("wait_for_tables.py", "agent", DATABASE_URL=url)
    assert said.startswith(f"waiting for the database at 127.0.0.1:{port}/errand: ")
    assert "refused" in said
    assert "canary" not in said


def test_tables_that_are_not_there_yet_are_waited_for(postgres_url: str) -> None:
    import psycopg  # noqa: PLC0415 - needed for Postgres only

    assert "waiting for the tables of agent" in _first_line("wait_for_tables.py", "agent", DATABASE_URL=postgres_url)
    with psycopg.connect(postgres_url.replace("+asyncpg", ""), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA agent")
        connection.execute("CREATE TABLE agent.alembic_version (version_num text)")
    assert _run("wait_for_tables.py", "agent", DATABASE_URL=postgres_url).returncode == 0


@contextmanager
def _gateway(answers: dict[str, tuple[int, dict[str, Any]]]) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers[self.path]
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        do_POST = do_GET  # noqa: N815 - the name that the server calls

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_helm_test_passes_when_a_chat_is_answered() -> None:
    answers = {"/readyz": (200, {}), "/api/v1/chat": (200, {"answer": "It is 42."})}
    with _gateway(answers) as url:
        done = _run("helm_test.py", GATEWAY=url, ADMIN_KEY="key")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "ok     chat: It is 42.")


def test_the_helm_test_names_the_component_and_where_to_look() -> None:
    parts = {"database": {"state": "ready"}, "inference": {"state": "away"}, "rag": {"state": "away"}}
    with _gateway({"/readyz": (503, {"components": parts})}) as url:
        done = _run("helm_test.py", GATEWAY=url, ADMIN_KEY="key", WAIT_SECONDS="0")
    assert done.returncode == 1
    inference, rag = done.stdout.splitlines()
    assert inference.startswith("FAILED inference: the model is not loaded")
    assert "inference.hubId" in inference
    assert rag.startswith("FAILED rag: is not ready: its pods' events name a Secret that is missing")


def test_the_helm_test_tells_a_gateway_that_does_not_answer_and_a_chat_that_fails() -> None:
    done = _run("helm_test.py", GATEWAY=f"http://127.0.0.1:{free_port()}", ADMIN_KEY="key", WAIT_SECONDS="0")
    assert done.returncode == 1
    assert done.stderr.startswith("FAILED gateway: ")
    with _gateway({"/readyz": (200, {}), "/api/v1/chat": (429, {"code": "QUOTA_EXCEEDED"})}) as url:
        done = _run("helm_test.py", GATEWAY=url, ADMIN_KEY="key")
    assert done.returncode == 1
    assert "QUOTA_EXCEEDED" in done.stderr
