"""A cross-encoder on ONNX Runtime: a query and a text read together, one number for how well the text answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
from errand_common.errors import ModelUnavailable
from numpy.typing import NDArray
from tokenizers import Tokenizer

WINDOW_TOKENS = 512
_BATCH = 16
# Where exports put the graph: optimum at the top, the hub's own in a folder.
_GRAPHS = ("model.onnx", "onnx/model.onnx")


class CrossEncoder:
    """Scores texts in a thread of its own; pairs are sorted by length so that little is padded."""

    def __init__(self, folder: Path, *, threads: int = 0) -> None:
        """Raises ModelUnavailable, naming the cure, for a folder that holds no cross-encoder."""
        self.name = folder.name
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(_graph(folder)), options, providers=["CPUExecutionProvider"]
            )
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # Both libraries raise bare exceptions of their own for files they cannot read.
        except Exception as error:
            if isinstance(error, ModelUnavailable):
                raise
            raise ModelUnavailable(f"{folder} cannot be read as a cross-encoder: {error}", model=self.name) from error
        self._inputs = {node.name for node in self._session.get_inputs()}
        # The query stays whole: of a pair that is too long the text is cut.
        self._tokenizer.enable_truncation(WINDOW_TOKENS, strategy="only_second")
        self._tokenizer.enable_padding()
        self._worker = ThreadPoolExecutor(1, "reranking")

    async def score(self, query: str, texts: Sequence[str]) -> tuple[list[float], int]:
        """A score from 0 to 1 for each text, and the tokens that were read."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._score, query, list(texts))

    def _score(self, query: str, texts: list[str]) -> tuple[list[float], int]:
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        scores, tokens = np.empty(len(texts), dtype=np.float32), 0
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            scores[chosen], read = self._score_batch([(query, texts[index]) for index in chosen])
            tokens += read
        return scores.tolist(), tokens

    def _score_batch(self, pairs: list[tuple[str, str]]) -> tuple[NDArray[np.float32], int]:
        encodings = self._tokenizer.encode_batch(pairs)
        given = {
            "input_ids": np.array([encoding.ids for encoding in encodings], dtype=np.int64),
            "attention_mask": np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64),
            "token_type_ids": np.array([encoding.type_ids for encoding in encodings], dtype=np.int64),
        }
        logits = self._session.run(None, {name: given[name] for name in self._inputs})[0]
        # One number a pair is its logit; of two the second is the class "answers".
        margin = logits[:, -1] - (logits[:, 0] if logits.shape[1] > 1 else 0.0)
        scores = 1.0 / (1.0 + np.exp(-margin.astype(np.float32)))
        return scores, int(given["attention_mask"].sum())

    def close(self) -> None:
        """Frees the thread."""
        self._worker.shutdown(wait=True, cancel_futures=True)


def _graph(folder: Path) -> Path:
    for name in _GRAPHS:
        if (folder / name).is_file() and (folder / "tokenizer.json").is_file():
            return folder / name
    raise ModelUnavailable(
        f"{folder} holds no model.onnx with a tokenizer.json; export a cross-encoder there with "
        "`optimum-cli export onnx --task text-classification`",
        model=folder.name,
    )
