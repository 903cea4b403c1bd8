"""Makes an encoder's products int8: `python -m errand_inference.quantize_encoder FOLDER TARGET`.

Both the weights and what comes in, whose ranges are measured on invented texts. A process of its own, as the
service itself does without nncf.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import nncf
import numpy as np
import openvino
from numpy.typing import NDArray
from tokenizers import Tokenizer

from errand_inference.training.knowledge import draw_fact

_TEXTS, _SEED = 120, 7
_MOST_SENTENCES, _MOST_TOKENS = 12, 256


def quantize(folder: Path, target: Path) -> None:
    """Writes the encoder of a folder with int8 products into the target."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(_MOST_TOKENS)
    tokenizer.no_padding()
    samples = nncf.Dataset([_inputs(tokenizer, text) for text in _texts()])
    quantized = nncf.quantize(
        openvino.Core().read_model(folder / "openvino_model.xml"),
        samples,
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=_TEXTS,
    )
    target.mkdir()
    openvino.save_model(quantized, target / "openvino_model.xml")
    shutil.copy(folder / "tokenizer.json", target / "tokenizer.json")


def _texts() -> Iterator[str]:
    rng = random.Random(_SEED)  # noqa: S311 - invented texts, no secrets
    for number in range(_TEXTS):
        yield " ".join(draw_fact(rng).sentence for _ in range(1 + number % _MOST_SENTENCES))


def _inputs(tokenizer: Tokenizer, text: str) -> dict[str, NDArray[np.int64]]:
    ids = np.array([tokenizer.encode(text).ids], dtype=np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


if __name__ == "__main__":
    quantize(Path(sys.argv[1]), Path(sys.argv[2]))
