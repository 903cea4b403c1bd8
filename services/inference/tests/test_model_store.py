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
from errand_inference.model_store import ModelSource, fetch, made_once, open_source, openvino_folder


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


def test_a_cache_that_cannot_be_written_to_costs_only_time(copy: Path, tmp_path: Path) -> None:
    """As in an image, whose root is read-only; a file in the folder's place cannot be written into by root either."""
    cache = tmp_path / "cache"
    cache.write_text("")
    _with_time(copy, 1_700_000_000)
    assert remembered_hash(copy, cache) == hash_folder(copy)


@pytest.mark.parametrize(
    ("kept", "told"),
    [(-1, r"model\.safetensors is cut off: it has \d+ of \d+ bytes"), (1000, "is cut off"), (0, "is cut off")],
)
def test_weights_that_are_cut_off_are_named_before_anything_is_made_of_them(copy: Path, kept: int, told: str) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(ModelUnavailable, match=told):
        open_source(copy)


def test_weights_that_are_something_else_are_named(copy: Path) -> None:
    for content in (b"\xff" * 100, b"\2\0\0\0\0\0\0\0[]", b"\7\0\0\0\0\0\0\0" + b'{"a":1}'):
        (copy / "model.safetensors").write_bytes(content)
        with pytest.raises(ModelUnavailable, match="no safetensors file"):
            open_source(copy)


def test_an_unsupported_architecture_gives_a_reason(copy: Path, tmp_path: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "nonsense", "architectures": ["Nonsense"]}))
    with pytest.raises(ModelUnavailable, match="cannot be converted"):
        openvino_folder(open_source(copy), "fp32", tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("openvino_model.xml"))


def test_of_several_that_need_it_at_once_one_makes_it(tmp_path: Path) -> None:
    """Each opens the lock's file anew, as another pod does."""
    target, makers = tmp_path / "made", list[int]()

    def make(unfinished: Path) -> None:
        makers.append(1)
        unfinished.mkdir()
        time.sleep(0.05)
        (unfinished / "file").write_text("whole")

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: (made_once(target, make) / "file").read_text(), range(4)))
    assert (found, len(makers)) == (["whole"] * 4, 1)


def test_what_fails_half_way_leaves_nothing_and_is_tried_again(tmp_path: Path) -> None:
    def fail(unfinished: Path) -> None:
        unfinished.mkdir()
        (unfinished / "half").write_text("x")
        raise ModelUnavailable("broken", model="m")

    with pytest.raises(ModelUnavailable):
        made_once(tmp_path / "made", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["made.lock"]
    assert made_once(tmp_path / "made", lambda unfinished: unfinished.mkdir()).is_dir()


def test_without_network_a_model_of_the_hub_is_found_where_it_was_kept(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    kept = tmp_path / "cache" / "hub" / "models--someone--tiny"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("abc")
    shutil.copytree(copy, kept / "snapshots" / "abc")
    assert open_source(fetch("someone/tiny", None, tmp_path / "cache")).content_hash == hash_folder(copy)
    with pytest.raises(ModelUnavailable, match="someone/other cannot be downloaded"):
        fetch("someone/other", None, tmp_path / "cache")


def test_a_gated_model_is_asked_for_with_the_token_which_no_error_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(hub_id: str, **asked: object) -> str:
        assert (hub_id, asked["token"]) == ("google/gated", "hush")
        raise OSError("403 Client Error\nsecrets below")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(ModelUnavailable) as told:
        fetch("google/gated", "hush", tmp_path)
    assert told.value.message == "google/gated cannot be downloaded: 403 Client Error"


def test_a_converted_model_is_used_again_by_all_who_ask(tiny_source: ModelSource, tiny_openvino: Path) -> None:
    cache = tiny_openvino.parent.parent
    written = (tiny_openvino / "openvino_model.xml").stat().st_mtime_ns
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: openvino_folder(tiny_source, "fp32", cache), range(4)))
    assert set(found) == {tiny_openvino}
    assert (tiny_openvino / "openvino_model.xml").stat().st_mtime_ns == written
