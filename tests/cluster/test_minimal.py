"""The first install: embedded databases, one node."""

from __future__ import annotations

import time

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


def test_an_upgrade_keeps_keys_and_conversations(minimal: Release) -> None:
    before = minimal.get("secret", "errand-keys")["data"]
    took = minimal.install("--set", "defaults.podAnnotations.round=second")
    assert minimal.get("secret", "errand-keys")["data"] == before
    minimal.log.say(f"minimal: upgraded in {took:.1f} s, keys kept")
    assert "ok     chat: " in minimal.helm("test", "errand", "--logs")
