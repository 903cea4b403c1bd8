"""A cross-encoder without training, for tests: the more words of the query a text holds, the better it answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
# Below it no word in common is as good as any: the score of none is well under one half.
_BIAS = -2.0


def make_cross_encoder(folder: Path, words: Sequence[str]) -> Path:
    """Writes model.onnx and tokenizer.json that know these words, in lower case; gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {word: number for number, word in enumerate((*_SPECIAL, *dict.fromkeys(words)))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    onnx.save(_graph(len(vocabulary)), str(folder / "model.onnx"))
    return folder


def _graph(size: int) -> onnx.ModelProto:
    """Counts the words of both halves and multiplies the counts."""
    counted = np.eye(size, dtype=np.float32)
    counted[: len(_SPECIAL)] = 0.0
    constants: dict[str, np.ndarray[Any, Any]] = {
        "table": counted,
        "last": np.array([2]),
        "tokens": np.array([1]),
        "bias": np.array([_BIAS], np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Cast", ["token_type_ids"], ["second_flat"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["second_flat", "last"], ["second"]),
        helper.make_node("Mul", ["words", "second"], ["of_text"]),
        helper.make_node("Sub", ["words", "of_text"], ["of_query"]),
        helper.make_node("ReduceMax", ["of_text"], ["text"], axes=[1], keepdims=0),
        helper.make_node("ReduceMax", ["of_query"], ["query"], axes=[1], keepdims=0),
        helper.make_node("Mul", ["text", "query"], ["common"]),
        helper.make_node("ReduceSum", ["common", "tokens"], ["shared"], keepdims=1),
        helper.make_node("Add", ["shared", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "cross_encoder",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
            for name in ("input_ids", "attention_mask", "token_type_ids")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model
