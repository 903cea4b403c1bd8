"""A tenant is deleted in the real suite: nothing of it is left in any service's files, but proof."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Suite
from tests.e2e.traces import is_up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

TENANT = "erased-tenant"
# What stays: who had it deleted, what was done in its time, that it is gone, and for an hour which empty indexes to
# drop once more. None of it holds content.
KEPT = {
    ("gateway.db", "tenants"),
    ("gateway.db", "tenant_deletions"),
    ("gateway.db", "audit_log"),
    ("rag.db", "deletion_certificates"),
    ("rag.db", "jobs"),
}


def _client(suite: Suite) -> httpx.Client:
    """A client of a new tenant."""
    assert suite.http.post("/api/v1/admin/tenants", json={"id": TENANT}).status_code == 201
    wanted = {"name": "owner", "tenant_id": TENANT, "roles": ["owner"]}
    wanted["scopes"] = ["chat", "documents", "tools", "admin"]
    key = suite.http.post("/api/v1/admin/keys", json=wanted).json()["key"]
    return httpx.Client(base_url=suite.url, headers={"X-API-Key": key}, timeout=150)


def _fill(client: httpx.Client) -> None:
    """Leaves something in every service."""
    assert client.post("/api/v1/chat", json={"message": "What is 15 plus 27?"}).status_code == 200
    assert client.post("/api/v1/facts", json={"text": "we like tea"}).status_code == 200
    schedule = {"cron": "0 7 * * *", "message": "What is 1 plus 1?"}
    assert client.put("/api/v1/schedules/daily", json=schedule).status_code == 200
    assert client.post("/api/v1/secrets", json={"name": "key", "value": "top-secret"}).status_code == 201
    assert client.post("/api/v1/collections", json={"name": "notes"}).status_code == 201
    files = {"file": ("a.txt", b"The safe opens with 4711. " * 10)}
    assert client.post("/api/v1/collections/notes/documents", files=files).status_code == 202
    assert client.post("/api/v1/runs", json={"message": "What is 12 * 12?"}).status_code == 202


def _traces(suite: Suite) -> list[str]:
    """Ids of traces in MLflow that hold the tenant's name anywhere."""
    with closing(sqlite3.connect(f"file:{suite.data_dir / 'mlflow' / 'mlflow.db'}?mode=ro", uri=True)) as database:
        query = "SELECT DISTINCT trace_id FROM spans WHERE content LIKE ?"
        return [trace for (trace,) in database.execute(query, [f"%{TENANT}%"])]


def _until_traced(suite: Suite) -> None:
    """A run's spans come a second after its end, and MLflow starts longer than the suite."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if is_up(suite) and len(_traces(suite)) >= 2:
            return
        time.sleep(0.2)
    pytest.fail("the tenant's runs are not in MLflow")


def _rows(suite: Suite) -> Iterator[tuple[str, str]]:
    """Files and tables in which some column names the tenant."""
    for file in sorted(suite.data_dir.rglob("*.db")):
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                columns = [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]
                for column in {"tenant_id", "tenant", "owner_tenant"}.intersection(columns):
                    query = f'SELECT count(*) FROM "{table}" WHERE "{column}" = ?'
                    if database.execute(query, [TENANT]).fetchone()[0]:
                        yield file.name, table


def test_nothing_of_a_deleted_tenant_is_left(suite: Suite) -> None:
    with _client(suite) as client:
        _fill(client)
        _until_traced(suite)
        assert len(set(_rows(suite)) - KEPT) >= 8
        assert suite.http.delete(f"/api/v1/admin/tenants/{TENANT}").status_code == 202
        assert client.get("/api/v1/runs").status_code in (401, 403)
    until = time.monotonic() + 120
    deletion: dict[str, Any] = {"state": "running"}
    while deletion["state"] == "running" and time.monotonic() < until:
        time.sleep(0.2)
        deletion = suite.http.get(f"/api/v1/admin/tenants/{TENANT}/deletion").json()
    assert deletion["state"] == "completed", deletion
    assert {"gateway", "agent", "rag", "tools"} == set(deletion["erased"])
    assert deletion["erased"]["rag"]["documents"] == 1
    assert deletion["erased"]["agent"]["runs"] >= 2
    assert deletion["erased"]["agent"]["traces"] >= 2
    assert _traces(suite) == []
    assert set(_rows(suite)) <= KEPT
    with closing(sqlite3.connect(f"file:{suite.data_dir / 'rag.db'}?mode=ro", uri=True)) as database:
        kept = database.execute("SELECT DISTINCT kind, principal_id FROM jobs WHERE tenant_id = ?", [TENANT]).fetchall()
    assert kept == [("sweep_index", "")]
