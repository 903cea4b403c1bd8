"""The shape of the bundled model: Gemma 3's architecture at a few million parameters."""

from __future__ import annotations

import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

LAYERS = 8


def build_model(tokenizer: PreTrainedTokenizerFast, *, seed: int) -> Gemma3ForCausalLM:
    """A freshly initialised model for this tokenizer."""
    torch.manual_seed(seed)
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=576,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=48,
        query_pre_attn_scalar=48,
        max_position_embeddings=4096,
        # Every layer sees the whole prompt: a declaration may stand further back than any window.
        layer_types=["full_attention"] * LAYERS,
        sliding_window=4096,
        rope_theta=10_000.0,
        rope_local_base_freq=10_000.0,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attention_dropout=0.0,
    )
    return Gemma3ForCausalLM(config)
