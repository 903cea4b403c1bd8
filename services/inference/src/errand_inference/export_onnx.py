"""Exports a BERT-like encoder to ONNX: `python -m errand_inference.export_onnx FOLDER TARGET`.

A process of its own, as the service itself does without torch.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoModel


class _Encoder(torch.nn.Module):
    """The encoder with plain tensors in and out: ids, mask, types -> last hidden state."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.model = AutoModel.from_pretrained(folder, local_files_only=True, attn_implementation="eager").eval()

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        output = self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        hidden: torch.Tensor = output.last_hidden_state
        return hidden


def export(folder: Path, target: Path) -> None:
    """Writes the model with free batch and sequence lengths."""
    names = ["input_ids", "attention_mask", "token_type_ids"]
    sample = torch.ones(2, 8, dtype=torch.int64)
    axes = {name: {0: "batch", 1: "sequence"} for name in [*names, "last_hidden_state"]}
    torch.onnx.export(
        _Encoder(str(folder)),
        (sample, sample, torch.zeros_like(sample)),
        str(target),
        input_names=names,
        output_names=["last_hidden_state"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
