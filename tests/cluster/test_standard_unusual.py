"""What seldom happens to a release: a canary beside its stable pods, databases that crash, a node that restarts."""

from __future__ import annotations

import json
import time

import pytest

from tests.cluster.cluster import Release
from tests.cluster.test_standard import RATE, SETS

pytestmark = pytest.mark.timeout(1800)


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
