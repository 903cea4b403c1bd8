"""Models are checked before they are used, converted once, and never left half-made."""

from __future__ import annotations

import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from errand_common.errors import ModelUnavailable
from errand_inference import content_hash
from errand_inference.content_hash import hash_folder, remembered_hash
from errand_inference.model_store import ModelSource, open_source, openvino_folder


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_a_whole_model_is_accepted(tiny_source: ModelSource) -> None:
    assert tiny_source.context_tokens == 1024
    assert len(tiny_source.content_hash) == 64


@pytest.mark.parametrize(
    ("file", "told"),
    [("tokenizer.json", "tokenizer"), ("model.safetensors", "weights"), ("config.json", "config.json")],
)
def test_a_missing_file_is_named(copy: Path, file: str, told: str) -> None:
    (copy / file).unlink()
    with pytest.raises(ModelUnavailable, match=told):
        open_source(copy)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no model folder"):
        open_source(tmp_path / "absent")


def test_the_hash_follows_the_content(copy: Path) -> None:
    before = hash_folder(copy)
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert hash_folder(copy) != before


def _with_time(folder: Path, seconds: float) -> None:
    """Sets all files' time of change."""
    for path in folder.iterdir():
        os.utime(path, (seconds, seconds))


def test_a_folder_is_read_once_until_a_file_changes(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    _with_time(copy, 1_700_000_000)
    first = remembered_hash(copy, cache)
    with monkeypatch.context() as unread:
        unread.setattr(content_hash, "hash_folder", lambda _: pytest.fail("read again"))
        assert remembered_hash(copy, cache) == first
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert remembered_hash(copy, cache) == hash_folder(copy) != first
    (copy / "added.json").write_text("{}")
    assert remembered_hash(copy, cache) == hash_folder(copy)


def test_a_folder_that_changes_right_now_is_read_again(copy: Path, tmp_path: Path) -> None:
    """Two writes within a tick of the clock leave the same time of change."""
    now = time.time()
    _with_time(copy, now)
    before = remembered_hash(copy, tmp_path / "cache")
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    _with_time(copy, now)
    assert remembered_hash(copy, tmp_path / "cache") != before


@pytest.mark.parametrize("record", ["", "[]", '{"files": 3}'])
def test_a_broken_record_is_no_hash(copy: Path, tmp_path: Path, record: str) -> None:
    cache = tmp_path / "cache"
    _with_time(copy, 1_700_000_000)
    found = remembered_hash(copy, cache)
    (kept,) = (cache / "hashes").iterdir()
    kept.write_text(record)
    assert remembered_hash(copy, cache) == found


def test_a_corrupt_model_gives_a_reason_and_leaves_nothing_usable(copy: Path, tmp_path: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    cache = tmp_path / "cache"
    with pytest.raises(ModelUnavailable, match="cannot be converted"):
        openvino_folder(open_source(copy), "fp32", cache)
    assert not list(cache.rglob("openvino_model.xml"))


def test_an_unsupported_architecture_gives_a_reason(copy: Path, tmp_path: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "nonsense", "architectures": ["Nonsense"]}))
    with pytest.raises(ModelUnavailable, match="cannot be converted"):
        openvino_folder(open_source(copy), "fp32", tmp_path / "cache")


def test_a_converted_model_is_used_again_by_all_who_ask(tiny_source: ModelSource, tiny_openvino: Path) -> None:
    cache = tiny_openvino.parent.parent
    written = (tiny_openvino / "openvino_model.xml").stat().st_mtime_ns
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: openvino_folder(tiny_source, "fp32", cache), range(4)))
    assert set(found) == {tiny_openvino}
    assert (tiny_openvino / "openvino_model.xml").stat().st_mtime_ns == written
