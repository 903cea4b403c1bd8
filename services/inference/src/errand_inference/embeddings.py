"""Sentence embeddings with all-MiniLM-L6-v2 on OpenVINO: mean pooling, unit length, 384 numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import openvino
from errand_common.errors import ModelUnavailable
from numpy.typing import NDArray
from tokenizers import Tokenizer

from errand_inference.model_store import MINILM

MODEL_NAME = MINILM
WINDOW_TOKENS = 256
# Two at once on half of the cores each: none waits for the slowest of all cores at every layer, a tenth more texts a
# second than one on all of them, and a query is read beside another's.
_STREAMS = 2
# Small, so that a query soon has its turn among many passages.
_BATCH = 8
# Lengths are padded to these steps: each shape that is new is planned anew, and the plans are kept.
_LENGTH_STEP = 8
_OPTIONS = {"NUM_STREAMS": str(_STREAMS), "INFERENCE_PRECISION_HINT": "f32"}


class MiniLmEmbedder:
    """Embeds texts in threads of its own; texts are sorted by length so that little is padded."""

    name = MODEL_NAME
    dimensions = 384

    def __init__(self, folder: Path, *, threads: int = 0) -> None:
        """Raises ModelUnavailable for a folder that holds no converted model."""
        options = {**_OPTIONS, "INFERENCE_NUM_THREADS": str(threads)}
        try:
            model = openvino.Core().compile_model(folder / "openvino_model.xml", "CPU", options)
        except RuntimeError as error:
            raise ModelUnavailable(
                f"{folder} cannot be read as an embedding model: {error}", model=self.name
            ) from error
        self._idle: SimpleQueue[openvino.InferRequest] = SimpleQueue()
        for _ in range(_STREAMS):
            self._idle.put(model.create_infer_request())
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(WINDOW_TOKENS)
        self._tokenizer.enable_padding(pad_to_multiple_of=_LENGTH_STEP)
        # OpenVINO's bridge to numpy is made at its first use: two threads that make it at once wait for each other for
        # ever, one of them with the interpreter's lock.
        self._embed_batch([""])
        self._workers = ThreadPoolExecutor(_STREAMS, "embeddings")

    async def embed(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], int]:
        """Vectors (texts, 384) and the tokens that were read."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        batches = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        # No more of a call wait in line than may be read at once: others' batches come between its own.
        lanes = (self._lane(texts, batches[first::_STREAMS], vectors) for first in range(min(_STREAMS, len(batches))))
        return vectors, sum(await asyncio.gather(*lanes))

    async def _lane(self, texts: Sequence[str], batches: Sequence[list[int]], vectors: NDArray[np.float32]) -> int:
        tokens, loop = 0, asyncio.get_running_loop()
        for chosen in batches:
            batch = [texts[index] for index in chosen]
            vectors[chosen], read = await loop.run_in_executor(self._workers, self._embed_batch, batch)
            tokens += read
        return tokens

    def _embed_batch(self, texts: list[str]) -> tuple[NDArray[np.float32], int]:
        encodings = self._tokenizer.encode_batch(texts)
        ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
        mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
        request = self._idle.get()
        try:
            request.infer({"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})
            hidden = request.get_output_tensor(0).data
            # The sum of each text's tokens; of its length nothing is left in the unit vector.
            total = np.matmul(mask[:, None, :].astype(np.float32), hidden)[:, 0]
        finally:
            self._idle.put(request)
        unit = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
        return unit.astype(np.float32), int(mask.sum())

    def close(self) -> None:
        """Frees the threads."""
        self._workers.shutdown(wait=True, cancel_futures=True)
