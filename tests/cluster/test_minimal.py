"""The first install: embedded databases, one node."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.cluster.cluster import Release

pytestmark = pytest.mark.timeout(1200)


def test_one_command_installs_a_suite_that_answers(minimal: Release) -> None:
    begin = time.monotonic()
    waited = minimal.install()
    said = minimal.helm("test", "errand", "--logs")
    minimal.log.say(
        f"minimal: ready {waited:.1f} s after helm install, first chat answered {time.monotonic() - begin:.1f} s"
    )
    assert "ok     chat: " in said


def test_idle_memory_is_counted(minimal: Release) -> None:
    time.sleep(20)
    lines = minimal.kubectl("top", "pods", "--no-headers").splitlines()
    used = {line.split()[0]: int(line.split()[2].removesuffix("Mi")) for line in lines}
    minimal.log.say(f"minimal: idle memory {sum(used.values())} MiB: {used}")
    assert sum(used.values()) < 2560


def test_a_run_streams_through_the_ingress(minimal: Release) -> None:
    if not minimal.get("ingressclass")["items"]:
        pytest.skip("this cluster has no ingress controller")
    minimal.install("--set", "ingress.enabled=true")
    until = time.monotonic() + 60
    while not (found := minimal.get("ingress", "errand")["status"].get("loadBalancer", {}).get("ingress")):
        assert time.monotonic() < until, "the ingress gets no address"
        time.sleep(1)
    headers = {"Host": "errand.local", "X-API-Key": minimal.admin_key(), "Accept": "text/event-stream"}
    body = {"message": "What is 15 plus 27?"}
    arrived: list[float] = []
    with httpx.stream("POST", f"http://{found[0]['ip']}/api/v1/chat", headers=headers, json=body, timeout=90) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("event:"):
                arrived.append(time.monotonic())
    # Events come as they happen; a proxy that gathers them would send all at once.
    assert len(arrived) > 3
    assert arrived[-1] - arrived[0] > 0.01
    minimal.log.say(f"minimal: {len(arrived)} events through the ingress in {arrived[-1] - arrived[0]:.2f} s")


def test_an_upgrade_keeps_keys_and_conversations(minimal: Release) -> None:
    before = minimal.get("secret", "errand-keys")["data"]
    took = minimal.install("--set", "defaults.podAnnotations.round=second")
    assert minimal.get("secret", "errand-keys")["data"] == before
    minimal.log.say(f"minimal: upgraded in {took:.1f} s, keys kept")
    assert "ok     chat: " in minimal.helm("test", "errand", "--logs")
