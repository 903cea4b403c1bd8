"""A real cluster, named by KUBECONFIG, with the images in it."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from tests.cluster.cluster import IMAGES, ROOT, Log, Release, run
from tests.e2e.conftest import Suite


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These tests are asked for by name, or skipped."""
    if os.environ.get("ERRAND_CLUSTER_TEST") and os.environ.get("KUBECONFIG"):
        return
    for item in items:
        if "tests/cluster" in str(item.path):
            item.add_marker(pytest.mark.skip(reason="needs a cluster: make cluster-test"))


@pytest.fixture(scope="session")
def log() -> Log:
    path = ROOT / ".cache" / "cluster-test.log"
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    return Log(path)


@pytest.fixture(scope="session", autouse=True)
def images(log: Log) -> None:
    """Gives each image to the loader, when one is named: a command that gets NAME:TAG and a Dockerfile."""
    loader = os.environ.get("ERRAND_IMAGE_LOADER")
    if not loader:
        return
    for name, dockerfile in IMAGES.items():
        command = [*shlex.split(loader), f"errand-{name}:0.1.0", dockerfile]
        subprocess.run(command, cwd=ROOT, check=True, timeout=1800)
    log.say("images are in the cluster")


def _release(namespace: str, profile: str, log: Log) -> Iterator[Release]:
    version = run("kubectl", "version", "--output", "json")
    assert version
    release = Release(namespace, log, profile)
    # For work on one test: what is there stays, before and after.
    keeps = bool(os.environ.get("ERRAND_CLUSTER_KEEP"))
    if not keeps:
        release.remove()
    yield release
    if not keeps:
        release.remove()


@pytest.fixture(scope="module")
def minimal(log: Log) -> Iterator[Release]:
    yield from _release("errand-minimal", "minimal", log)


@pytest.fixture(scope="module")
def encrypted(log: Log) -> Iterator[Release]:
    yield from _release("errand-encrypted", "minimal", log)


@pytest.fixture
def wrong(log: Log) -> Iterator[Release]:
    yield from _release("errand-wrong", "minimal", log)


@pytest.fixture(scope="session")
def standard(log: Log) -> Iterator[Release]:
    yield from _release("errand-standard", "", log)


@pytest.fixture(scope="module")
def suite(standard: Release) -> Iterator[Suite]:
    """The release as the end-to-end tests know a suite: by its gateway alone."""
    with standard.forwarded("errand-gateway", 80) as url, pytest.MonkeyPatch.context() as environment:
        key = standard.admin_key()
        # The command line goes there too.
        environment.setenv("ERRAND_URL", url)
        environment.setenv("ERRAND_API_KEY", key)
        with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=150) as client:
            yield Suite(url, key, ROOT / ".cache", "", client, {}, {})
