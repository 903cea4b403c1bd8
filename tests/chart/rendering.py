"""Renders the chart with helm and finds things in what comes out."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "charts" / "errand"
PROFILES = ("minimal", "standard", "ha", "gpu", "airgapped")
SERVICES = ("gateway", "agent", "inference", "rag", "tools")
Manifest = dict[str, Any]


def helm() -> str:
    """The helm of the virtual environment, or of the machine."""
    beside = Path(sys.executable).parent / "helm"
    return str(beside) if beside.exists() else str(shutil.which("helm"))


@cache
def _rendered(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [helm(), "template", "shop", str(CHART), "--namespace", "team", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def _arguments(profile: str | None, values: dict[str, Any]) -> list[str]:
    given = ["--values", str(CHART / "ci" / f"{profile}-values.yaml")] if profile else []
    for path, value in values.items():
        given += ["--set-json", f"{path.replace('__', '.')}={json.dumps(value)}"]
    return given


def render(profile: str | None = None, **values: Any) -> list[Manifest]:
    """The manifests; `database__kind="sqlite"` sets database.kind. Fails the test when helm does."""
    done = _rendered(*_arguments(profile, values))
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if document]


def sources(profile: str | None = None, **values: Any) -> set[str]:
    """The templates that render something."""
    done = _rendered(*_arguments(profile, values))
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"^# Source: (\S+)$", done.stdout, re.MULTILINE))


def refused(profile: str | None = None, **values: Any) -> str:
    """What helm says against the values; fails the test when it takes them."""
    done = _rendered(*_arguments(profile, values))
    assert done.returncode != 0, "helm took what it should refuse"
    return done.stderr


def find(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The one manifest of this kind and component."""
    found = select(manifests, kind, f"shop-errand-{name}" if name else "shop-errand")
    assert len(found) == 1, f"{kind} {name}: {len(found)} times"
    return found[0]


def select(manifests: list[Manifest], kind: str, name: str | None = None) -> list[Manifest]:
    """All manifests of a kind."""
    return [m for m in manifests if m["kind"] == kind and name in (None, m["metadata"]["name"])]


def workload(manifests: list[Manifest], name: str) -> Manifest:
    """A component's Deployment or StatefulSet."""
    kind = "StatefulSet" if name in ("agent", "postgres", "chroma") else "Deployment"
    return find(manifests, kind, name)


def pods(manifests: list[Manifest]) -> list[tuple[str, Manifest]]:
    """Every pod spec with a name to tell it by."""
    found = []
    for manifest in manifests:
        name = f"{manifest['kind']}/{manifest['metadata']['name']}"
        spec = manifest.get("spec", {})
        if manifest["kind"] == "Pod":
            found.append((name, spec))
        elif manifest["kind"] == "CronJob":
            found.append((name, spec["jobTemplate"]["spec"]["template"]["spec"]))
        elif "template" in spec:
            found.append((name, spec["template"]["spec"]))
    return found


def environment(manifests: list[Manifest], name: str) -> dict[str, Any]:
    """A service's variables: the value, or where it comes from."""
    container = workload(manifests, name)["spec"]["template"]["spec"]["containers"][0]
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}
