"""Bundled databases and two of each service: upgrade, rollback, kills, scaling, network."""

from __future__ import annotations

import json
import os
import time

import pytest

from tests.cluster.cluster import Release

pytestmark = pytest.mark.timeout(1800)

PAIRS = [f"{name}.replicas=2" for name in ("gateway", "agent", "inference", "rag", "tools")]
SETS = [part for pair in [*PAIRS, "backup.enabled=true"] for part in ("--set", pair)]
# Requests a second. A machine that has other work to do may carry fewer.
RATE = float(os.environ.get("ERRAND_CLUSTER_RATE", "20"))
# Connections that the load keeps.
LARGEST_IN_FLIGHT = 50


def test_it_installs_and_answers(standard: Release) -> None:
    took = standard.install(*SETS)
    assert "ok     chat: " in standard.helm("test", "errand", "--logs")
    standard.log.say(f"standard: installed in {took:.1f} s, helm test passed")


def test_a_pod_outside_reaches_the_gateway_alone(standard: Release) -> None:
    script = """
import socket, time
time.sleep(10)  # a policy may take a moment to reach a new pod
for host, port in (("gateway", 80), ("agent-headless", 50051), ("inference-headless", 50052), ("rag-headless", 50053),
                   ("tools-headless", 50054), ("postgres", 5432), ("redis", 6379), ("chroma", 8000), ("mlflow", 5000)):
    try:
        socket.create_connection((f"errand-{host}", port), timeout=3).close()
        print(host, "open")
    except OSError:
        print(host, "closed")
"""
    standard.start_pod("outsider", script)
    reached = dict(line.split() for line in standard.pod_output("outsider").splitlines())
    standard.log.say(f"network: a pod outside the release finds {reached}")
    assert [name for name, state in reached.items() if state == "open"] == ["gateway"]


def test_an_upgrade_under_load_fails_no_request(standard: Release) -> None:
    standard.start_load(RATE, 150)
    took = standard.install(*SETS, "--set", "defaults.podAnnotations.round=second")
    result = standard.load_result()
    standard.log.say(f"upgrade under {RATE:g} requests/s: all pods replaced in {took:.1f} s; {json.dumps(result)}")
    assert result["failed"] == 0, result["failures"]


def test_a_rollback_under_load_fails_no_request(standard: Release) -> None:
    standard.start_load(RATE, 150)
    begin = time.monotonic()
    standard.helm("rollback", "errand", "1", "--wait", "--timeout", "8m")
    result = standard.load_result()
    standard.log.say(f"rollback under {RATE:g} requests/s: {time.monotonic() - begin:.1f} s; {json.dumps(result)}")
    assert result["failed"] == 0, result["failures"]


def _lose(standard: Release, component: str) -> None:
    """As when a node is lost: the pod is gone, another one is made."""
    pod = standard.pods(component)[0]["metadata"]["name"]
    standard.kubectl("delete", "pod", pod, "--force", "--grace-period=0")


@pytest.mark.parametrize(
    ("how", "component"),
    [
        *(("kill -9", name) for name in ("gateway", "agent", "inference", "rag", "tools")),
        ("loss", "gateway"),
        ("loss", "agent"),
    ],
)
def test_a_killed_pod_costs_only_what_it_held(standard: Release, component: str, how: str) -> None:
    standard.start_load(RATE, 40)
    begin = time.monotonic()
    if how == "loss":
        _lose(standard, component)
    else:
        standard.kill(component)
    standard.wait_ready(component, 2)
    back = time.monotonic() - begin
    result = standard.load_result()
    standard.log.say(
        f"{how} of {component} under {RATE:g} requests/s: two ready again after {back:.1f} s; {json.dumps(result)}"
    )
    # Only a killed gateway takes requests with it: what is in flight on its connections, at most one on each.
    allowed = LARGEST_IN_FLIGHT if component == "gateway" else 0
    assert result["failed"] <= allowed, result["failures"]


def test_no_run_was_lost(standard: Release) -> None:
    """All that the kills interrupted was taken up and ended by itself."""
    open_runs = "SELECT count(*) FROM agent.runs WHERE state IN ('QUEUED', 'RUNNING')"
    until = time.monotonic() + 120
    while (left := query(standard, open_runs)) != "0":
        assert time.monotonic() < until, f"{left} runs never end"
        time.sleep(2)
    ended = query(standard, "SELECT stop_reason, count(*) FROM agent.runs GROUP BY stop_reason").split()
    standard.log.say(f"runs after the kills, by stop reason: {ended}")


def test_load_brings_a_replica_and_calm_takes_it_away(standard: Release) -> None:
    scaling = ["enabled=true", "minReplicas=1", "maxReplicas=2", "cpuPercent=60"]
    standard.install(*SETS, *[part for item in scaling for part in ("--set", f"tools.autoscaling.{item}")])
    standard.wait_ready("tools", 1)
    begin = time.monotonic()
    standard.start_load(2 * RATE, 90, 0.2)
    standard.wait_ready("tools", 2, 120)
    standard.log.say(f"scaling: second tools pod ready {time.monotonic() - begin:.1f} s after the load began")
    newest = max(standard.pods("tools"), key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
    while not standard.calls(newest["metadata"]["name"]):
        assert time.monotonic() - begin < 180, "the second tools pod is sent no call"
        time.sleep(0.5)
    standard.log.say(f"scaling: it takes calls {time.monotonic() - begin:.1f} s after the load began")
    # More than two cores carry: what waits at the end is answered too.
    result = standard.load_result(600)
    standard.log.say(f"scaling: {json.dumps(result)}")
    assert result["failed"] == 0, result["failures"]
    # Five calm minutes, by the chart's own rule.
    begin = time.monotonic()
    while len(standard.pods("tools")) > 1:
        assert time.monotonic() - begin < 600, "the second tools pod stays"
        time.sleep(2)
    standard.log.say(f"scaling: second tools pod gone {time.monotonic() - begin:.1f} s after the load ended")


def query(release: Release, sql: str) -> str:
    command = ["exec", "errand-postgres-0", "--", "psql", "-h", "/tmp", "-U", "postgres", "-At", "errand", "-c", sql]
    return release.kubectl(*command).strip()
