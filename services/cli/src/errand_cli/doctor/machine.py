"""The machine and the data directory: versions, disk, memory, secrets, the model's files."""

from __future__ import annotations

import json
import os
import platform
import shutil
import stat
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from errand_cli.doctor.findings import Finding, bounded, note, ok, wrong
from errand_cli.layout import Layout

PACKAGES = (
    "errand",
    "errand-common",
    *(f"errand-{name}" for name in ("gateway", "agent", "inference", "rag", "tools")),
)
_GIB = 1024**3
_MODEL_FILES = ("config.json", "tokenizer.json", "model.safetensors")


def versions() -> Finding:
    """Python, and one version of all packages."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            return wrong("versions", f"{package} is not installed", "run `make setup`")
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{name} {number}" for name, number in found.items())
        return wrong("versions", f"packages of different versions: {listed}", "run `make setup` again")
    return ok("versions", f"errand {found['errand']}, Python {platform.python_version()}")


def disk(folder: Path) -> Finding:
    """Free space where the data lie."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free / _GIB
    cure = f"free some space on the volume of {there}: below 1 GiB documents are refused and databases stop writing"
    return bounded("disk", free, least=1, better=5, shown=f"{free:.1f} GiB free", cure=cure)


def memory() -> Finding:
    """Memory that can still be had."""
    free = psutil.virtual_memory().available / _GIB
    cure = "end other programs, or use a machine with more memory: the suite needs about 2 GiB"
    return bounded("memory", free, least=0.5, better=2, shown=f"{free:.1f} GiB available", cure=cure)


def data_directory(layout: Layout) -> Iterator[Finding]:
    """Whether it can be written, and whether its secrets are the owner's alone."""
    if not layout.root.exists():
        yield note("data directory", f"{layout.root} is not there yet", "`errand up` makes it")
        return
    if not os.access(layout.root, os.W_OK | os.X_OK):
        yield wrong("data directory", f"{layout.root} cannot be written", f"chown -R {os.getuid()} {layout.root}")
        return
    yield ok("data directory", str(layout.root))
    for secret in (layout.signing_key, layout.admin_key):
        if not secret.exists():
            yield wrong("secrets", f"{secret.name} is missing", "start with `errand up`, which makes it")
        elif stat.S_IMODE(secret.stat().st_mode) & 0o077:
            yield wrong("secrets", f"others may read {secret}", f"chmod 600 {secret}")
        else:
            yield ok("secrets", f"{secret.name} is its owner's alone")


def model_files(inference_settings: dict[str, Any]) -> Finding:
    """The files of the model that the settings name."""
    if inference_settings.get("hub_id"):
        return ok("model files", f"{inference_settings['hub_id']} comes from the hub")
    folder = Path(str(inference_settings["model_path"]))
    missing = [name for name in _MODEL_FILES if not (folder / name).is_file() or not (folder / name).stat().st_size]
    if missing:
        return wrong(
            "model files",
            f"{folder} lacks {', '.join(missing)}",
            "set ERRAND_INFERENCE_MODEL_PATH to a folder with a model, or get the bundled one back with git",
        )
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"][0]
    except (ValueError, KeyError, IndexError):
        return wrong("model files", f"{folder}/config.json is damaged", "copy the model's folder anew")
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) / 1e6
    return ok("model files", f"{folder.name}: {kind}, {size:.0f} MB")
