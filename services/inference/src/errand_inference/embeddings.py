"""Sentence embeddings with all-MiniLM-L6-v2 on ONNX Runtime: mean pooling, unit length, 384 numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

MODEL_NAME = "all-MiniLM-L6-v2"
WINDOW_TOKENS = 256
_BATCH = 32


class MiniLmEmbedder:
    """Embeds texts in a thread of its own; texts are sorted by length so that little is padded."""

    name = MODEL_NAME
    dimensions = 384

    def __init__(self, folder: Path, *, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(WINDOW_TOKENS)
        self._tokenizer.enable_padding()
        self._worker = ThreadPoolExecutor(1, "embeddings")

    async def embed(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], int]:
        """Vectors (texts, 384) and the tokens that were read."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._embed, list(texts))

    def _embed(self, texts: list[str]) -> tuple[NDArray[np.float32], int]:
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        tokens = 0
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            batch, read = self._embed_batch([texts[index] for index in chosen])
            vectors[chosen] = batch
            tokens += read
        return vectors, tokens

    def _embed_batch(self, texts: list[str]) -> tuple[NDArray[np.float32], int]:
        encodings = self._tokenizer.encode_batch(texts)
        ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
        mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._session.run(None, inputs)[0]
        weights = mask[:, :, None].astype(np.float32)
        mean = (hidden * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
        unit = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
        return unit.astype(np.float32), int(mask.sum())

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, at most the window of 256."""
        return [sum(encoding.attention_mask) for encoding in self._tokenizer.encode_batch(list(texts))]

    def close(self) -> None:
        """Frees the thread."""
        self._worker.shutdown(wait=True, cancel_futures=True)
