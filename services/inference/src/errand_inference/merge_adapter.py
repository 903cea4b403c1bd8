"""Adds a LoRA adapter (PEFT layout) to its base: `python -m errand_inference.merge_adapter BASE ADAPTER TARGET`.

A process of its own, as the service itself does without torch. The sum is a model like any other, so every
engine serves it and at the base's speed.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

_PREFIX = "base_model.model."
_LEFT, _RIGHT = ".lora_B.weight", ".lora_A.weight"


def merge(base: Path, adapter: Path, target: Path) -> None:
    """Writes base + scale * B A. Raises ValueError for an adapter that does not fit the base."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    if config.get("use_dora") or config.get("bias", "none") != "none":
        raise ValueError("the adapter has parts beside LoRA's two matrices")
    pairs = _pairs(adapter / "adapter_model.safetensors")
    rank = config["r"]
    scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
    target.mkdir(parents=True)
    for path in base.iterdir():
        if path.suffix in {".json", ".model"}:
            shutil.copy(path, target)
    weights = load_file(base / "model.safetensors")
    for name, (left, right) in pairs.items():
        _add(weights, name, left, right, scale)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})


def _pairs(file: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    with safe_open(file, "pt") as tensors:
        names = set(tensors.keys())
        bases = {name.removesuffix(_LEFT) for name in names if name.endswith(_LEFT)}
        if names != {base + side for base in bases for side in (_LEFT, _RIGHT)} or not bases:
            raise ValueError("the adapter's tensors are not pairs of lora_A and lora_B")
        return {
            base.removeprefix(_PREFIX): (tensors.get_tensor(base + _LEFT), tensors.get_tensor(base + _RIGHT))
            for base in bases
        }


def _add(weights: dict[str, torch.Tensor], name: str, left: torch.Tensor, right: torch.Tensor, scale: float) -> None:
    weight = weights.get(f"{name}.weight")
    if weight is None or weight.shape != (left.shape[0], right.shape[1]):
        raise ValueError(f"the adapter's {name} does not fit the base model")
    change = scale * (left.float() @ right.float())
    weights[f"{name}.weight"] = (weight.float() + change).to(weight.dtype)


if __name__ == "__main__":
    merge(*(Path(argument) for argument in sys.argv[1:4]))
