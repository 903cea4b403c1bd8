"""llama.cpp's server with a Gemma 3 model folder, its weights in Q8_0; run in the peers' environment.

    python bench/inference/llama_server.py MODEL_FOLDER GGUF_FILE SLOTS

Prints the server's address once it listens, and ends when its input is closed. Prompts are sent as
token ids, so the vocabulary only has to be as long as the model's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gguf
import numpy as np
import xllamacpp
from safetensors.numpy import load_file

SLOT_TOKENS = 1024
# Names in llama.cpp by names in Hugging Face's layout, for each layer.
LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def convert(folder: Path, target: Path) -> None:
    """Writes the GGUF file; nothing half-written stays under its name."""
    config = json.loads((folder / "config.json").read_text())
    unfinished = target.with_suffix(".part")
    writer = gguf.GGUFWriter(unfinished, "gemma3")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_sliding_window(config["sliding_window"])
    add_vocabulary(writer, folder, config["vocab_size"])
    for name, values in load_file(folder / "model.safetensors").items():
        add_tensor(writer, name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.rename(target)


def add_vocabulary(writer: gguf.GGUFWriter, folder: Path, size: int) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    names = {index: name for name, index in tokenizer["model"]["vocab"].items()}
    names |= {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    special = {token["id"] for token in tokenizer["added_tokens"] if token["special"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([names.get(index, f"<unused{index}>") for index in range(size)])
    kinds = (gguf.TokenType.NORMAL, gguf.TokenType.CONTROL)
    writer.add_token_types([kinds[index in special] for index in range(size)])
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    identifiers = {name: index for index, name in names.items()}
    writer.add_bos_token_id(identifiers["<bos>"])
    writer.add_eos_token_id(identifiers["<end_of_turn>"])


def add_tensor(writer: gguf.GGUFWriter, name: str, values: np.ndarray) -> None:
    values = values.astype(np.float32)
    if name.endswith("norm.weight"):
        # Gemma keeps how far a scale is from one.
        writer.add_tensor(renamed(name), values + 1)
        return
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor(renamed(name), gguf.quants.quantize(values, kind), raw_dtype=kind)


def renamed(name: str) -> str:
    bare = name.removeprefix("model.").removesuffix(".weight")
    if bare in ("embed_tokens", "norm"):
        return {"embed_tokens": "token_embd.weight", "norm": "output_norm.weight"}[bare]
    _, number, part = bare.split(".", 2)
    return f"blk.{number}.{LAYER[part]}.weight"


def serve(file: Path, slots: int) -> None:
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.n_parallel = slots
    params.n_ctx = slots * SLOT_TOKENS
    # Else a slot's prefix is dropped with the window that slides over it.
    params.swa_full = True
    params.warmup = True
    params.port = 0
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    model, gguf_file = Path(sys.argv[1]), Path(sys.argv[2])
    if not gguf_file.is_file():
        convert(model, gguf_file)
    serve(gguf_file, int(sys.argv[3]))
