"""Builds Gemma 3 models with random weights: a tiny one for tests, FunctionGemma's shape for benchmarks.

python -m errand_inference.testing.random_model functiongemma FOLDER
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

from errand_inference.domain.format import BOS, CONTROL_TOKENS, END_TURN

_TRAINED = 512
PAD, UNK = "<pad>", "<unk>"
_TEXT = (
    "The weather in Tokyo is sunny and 15 degrees warm. Which tool converts kilometres to miles? "
    "call: response: declaration: {location: unit: value: true false null 0 1 2.5} 天気 Größe naïve"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What makes a model large or small."""

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    head_dim: int
    context_tokens: int
    sliding_window: int


SHAPES = {
    # Heads of 32, the smallest that vLLM reads on a CPU.
    "tiny": Shape(512, 32, 64, 2, 2, 32, 1024, 256),
    "functiongemma": Shape(262_144, 640, 2048, 18, 4, 256, 32_768, 512),
}


def build_random_model(folder: Path, shape: Shape, *, seed: int = 7) -> Path:
    """Writes model and tokenizer in Hugging Face's layout and returns the folder."""
    tokenizer = _tokenizer(shape.vocabulary)
    torch.manual_seed(seed)
    config = Gemma3TextConfig(
        vocab_size=max(shape.vocabulary, len(tokenizer)),
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=1,
        head_dim=shape.head_dim,
        query_pre_attn_scalar=shape.head_dim,
        max_position_embeddings=shape.context_tokens,
        sliding_window=shape.sliding_window,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        # Wider than a trained model's start: else the logits are nearly equal, and which one is
        # largest would hang on the order in which an engine adds.
        initializer_range=0.2,
    )
    Gemma3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_TRAINED,
        special_tokens=[PAD, "<eos>", BOS, UNK, *CONTROL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=1,
        show_progress=False,
    )
    tokenizer.train_from_iterator([_TEXT], trainer)
    # Words that no text holds: an engine's masks and its head are as wide as the real vocabulary's.
    missing = vocabulary - tokenizer.get_vocab_size()
    tokenizer.add_tokens([f"\u2042{number:06d}" for number in range(missing if vocabulary > _TRAINED else 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=END_TURN,
        pad_token=PAD,
        unk_token=UNK,
        additional_special_tokens=list(CONTROL_TOKENS),
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )


if __name__ == "__main__":
    build_random_model(Path(sys.argv[2]), SHAPES[sys.argv[1]])
