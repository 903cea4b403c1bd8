"""What seldom happens to a release: a restore, a canary, databases that crash, a node that restarts."""

from __future__ import annotations

import json
import time

import pytest

from tests.cluster.cluster import Release
from tests.cluster.test_standard import RATE, SETS, query
from tests.e2e.conftest import Suite

pytestmark = pytest.mark.timeout(1800)


def test_a_backup_can_be_restored(standard: Release, suite: Suite) -> None:
    standard.kubectl("delete", "job", "backup-now", "restore-now", "--ignore-not-found")
    standard.kubectl("create", "job", "backup-now", "--from=cronjob/errand-backup")
    standard.kubectl("wait", "--for=condition=complete", "job/backup-now", "--timeout=240s")
    said = standard.kubectl("logs", "job/backup-now", "--all-containers")
    assert "backup /backup/" in said
    assert "vectors.jsonl.gz" in said
    assert "dump of 0 collections" not in said, "the requests before have ingested a document"
    # Only the runs of the backup are counted: others may come in at any time.
    newest = query(standard, "SELECT max(id) FROM agent.runs")
    count = f"SELECT count(*) FROM agent.runs WHERE id <= '{newest}'"
    before = query(standard, count)
    query(standard, f"DELETE FROM agent.runs WHERE id <= '{newest}'")
    assert query(standard, count) == "0"
    standard.kubectl("create", "job", "restore-now", "--from=cronjob/errand-restore")
    standard.kubectl("wait", "--for=condition=complete", "job/restore-now", "--timeout=240s")
    assert query(standard, count) == before
    standard.log.say(f"backup: {said.strip()}; {before} runs deleted and restored")
    assert "ok     chat: " in standard.helm("test", "errand", "--logs")
    found = suite.http.post("/api/v1/search", json={"query": "opening hours of the cafeteria"}).json()
    assert "11:30" in found["hits"][0]["text"]


def test_a_canary_takes_calls_beside_the_stable_pods(standard: Release) -> None:
    took = standard.install(*SETS, "--set", "tools.canary.replicas=1,tools.canary.tag=0.1.0")
    (canary,) = [pod for pod in standard.pods("tools") if pod["metadata"]["labels"]["errand.dev/track"] == "canary"]
    # Connections live for half a minute: by then all have looked for pods again.
    standard.start_load(RATE, 60)
    result = standard.load_result()
    calls = standard.calls(canary["metadata"]["name"])
    standard.log.say(f"canary: there after {took:.1f} s, served {calls:g} calls; {json.dumps(result)}")
    assert result["failed"] == 0, result["failures"]
    assert calls > 0


def test_databases_that_crash_come_back_with_all_they_had(standard: Release) -> None:
    """The bundled ones run once: requests fail while they start again, and nothing else is lost."""
    standard.start_load(RATE, 60)
    begin = time.monotonic()
    standard.kill("postgres", "redis", "chroma", "mlflow")
    for component in ("postgres", "redis", "chroma", "mlflow"):
        standard.wait_ready(component, 1)
    back = time.monotonic() - begin
    result = standard.load_result()
    standard.log.say(f"kill -9 of all databases: ready again after {back:.1f} s; {json.dumps(result)}")
    # 503 and 504 tell a client to come again, 500 does not.
    assert "500" not in result["statuses"], result["failures"]
    assert "ok     chat: " in standard.helm("test", "errand", "--logs")


def test_all_pods_crash_at_once_as_when_the_node_restarts(standard: Release) -> None:
    services, backends = ("gateway", "agent", "inference", "rag", "tools"), ("postgres", "redis", "chroma", "mlflow")
    begin = time.monotonic()
    standard.kill(*services, *backends, every=True)
    for component in (*services, *backends):
        standard.wait_ready(component, 2 if component in services else 1)
    assert "ok     chat: " in standard.helm("test", "errand", "--logs")
    standard.log.say(f"kill -9 of all pods: all ready, helm test passed after {time.monotonic() - begin:.1f} s")
