#!/usr/bin/env python3
"""Writes a small Llama model of Hugging Face's layout as a GGUF file (f32), to show `torpor profile` on one.

    pip install gguf numpy safetensors
    examples/llama_to_gguf.py FOLDER MODEL.gguf

For models whose tokenizer.json is a BPE with byte fallback, as in Llama 2 (TinyStories too); llama.cpp has a converter for all. Same text, same
loss, except for characters that the vocabulary lacks: GGUF gives each an <unk>, tokenizer.json one to a run of them.
"""
import json
import sys
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file

TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
BLOCK = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
         "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def side_by_side(weight, heads):
    """GGUF rotates neighbours, Hugging Face the two halves of a head: the rows of queries and keys move."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def add_tokenizer(writer, tokenizer, config):
    model = tokenizer["model"]
    if model["type"] != "BPE" or not model.get("byte_fallback"):
        sys.exit("expected a BPE with byte_fallback in tokenizer.json")
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    # GGUF has no merges here: a pair is merged earlier the higher the score of what it gives.
    scores = {token: 0.0 for token in tokens}
    for rank, merge in reversed(list(enumerate(model["merges"]))):
        scores["".join(merge.split(" ", 1) if isinstance(merge, str) else merge)] = float(-rank)
    kinds = {token: gguf.TokenType.NORMAL for token in tokens}
    kinds |= {f"<0x{byte:02X}>": gguf.TokenType.BYTE for byte in range(256) if f"<0x{byte:02X}>" in kinds}
    kinds |= {added["content"]: gguf.TokenType.CONTROL for added in tokenizer["added_tokens"]}
    kinds[model["unk_token"]] = gguf.TokenType.UNKNOWN
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([scores[token] for token in tokens])
    writer.add_token_types([kinds[token] for token in tokens])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    folder = Path(sys.argv[1])
    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] != "llama" or config["hidden_act"] != "silu" or config.get("rope_scaling"):
        sys.exit("expected a Llama model with silu and without rope_scaling")
    heads = config["num_attention_heads"]
    writer = gguf.GGUFWriter(sys.argv[2], "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads", heads))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config.get("rope_theta", 10000.0))
    writer.add_rope_dimension_count(config.get("head_dim", config["hidden_size"] // heads))
    writer.add_vocab_size(config["vocab_size"])
    add_tokenizer(writer, json.loads((folder / "tokenizer.json").read_text()), config)
    weights = load_file(folder / "model.safetensors")
    if config.get("tie_word_embeddings"):  # stored once, under either name
        weights.setdefault("model.embed_tokens.weight", weights.get("lm_head.weight"))
        weights.pop("lm_head.weight", None)
    for name, weight in weights.items():
        weight = weight.astype(np.float32)
        stem = name.removesuffix(".weight")
        if stem in TOP:
            target = TOP[stem]
        else:
            _, _, layer, part = stem.split(".", 3)
            target = f"blk.{layer}.{BLOCK[part]}"
            if part == "self_attn.q_proj":
                weight = side_by_side(weight, heads)
            if part == "self_attn.k_proj":
                weight = side_by_side(weight, config.get("num_key_value_heads", heads))
        writer.add_tensor(target + ".weight", np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
