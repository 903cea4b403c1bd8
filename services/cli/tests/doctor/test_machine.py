"""Checks of the machine, on folders made wrong on purpose."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from errand_cli.doctor import machine
from errand_cli.doctor.findings import Finding, Level
from errand_cli.layout import Layout

_GIB = 1024**3


@pytest.mark.parametrize(("free", "level"), [(0.2, Level.WRONG), (3, Level.NOTE), (50, Level.OK)])
def test_little_space_is_noted_before_it_is_gone(
    free: float, level: Level, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: SimpleNamespace(free=free * _GIB))
    assert machine.disk(tmp_path / "not" / "there").level is level


@pytest.mark.parametrize(("free", "level"), [(0.1, Level.WRONG), (1, Level.NOTE), (8, Level.OK)])
def test_little_memory_is_noted(free: float, level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: SimpleNamespace(available=free * _GIB))
    assert machine.memory().level is level


def test_a_secret_that_others_may_read_is_wrong(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path)
    layout.prepare()
    assert all(finding.level is Level.OK for finding in machine.data_directory(layout))
    layout.admin_key.chmod(0o644)
    layout.signing_key.unlink()
    secrets = [finding for finding in machine.data_directory(layout) if finding.check == "secrets"]
    assert [finding.level for finding in secrets] == [Level.WRONG, Level.WRONG]
    assert f"chmod 600 {layout.admin_key}" in [finding.cure for finding in secrets]


def _model(folder: Path) -> Path:
    for name in ("tokenizer.json", "model.safetensors"):
        (folder / name).write_text("x")
    (folder / "config.json").write_text(json.dumps({"architectures": ["Gemma3ForCausalLM"]}))
    return folder


def _found(folder: Path) -> Finding:
    return machine.model_files({"model_path": str(folder), "hub_id": ""})


def test_a_whole_model_is_named(tmp_path: Path) -> None:
    assert "Gemma3ForCausalLM" in _found(_model(tmp_path)).detail


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "model.safetensors").write_bytes(b""),
        lambda folder: (folder / "tokenizer.json").unlink(),
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: (folder / "config.json").write_text("{}"),
    ],
)
def test_a_model_that_is_not_whole_is_wrong(spoil: Callable[[Path], object], tmp_path: Path) -> None:
    spoil(_model(tmp_path))
    assert _found(tmp_path).level is Level.WRONG


def test_packages_of_two_versions_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "version", lambda name: "0.2.0" if name == "errand-rag" else "0.1.0")
    assert machine.versions().level is Level.WRONG
