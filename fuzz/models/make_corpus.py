"""Writes the seeds of fuzz/models: tiny configurations and GGUF models of each architecture (PyPI gguf, numpy).

    python fuzz/models/make_corpus.py [build/bin/torpor]      # with the program also packed models, made of the GGUF ones
"""

import json
import math
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np

HERE = pathlib.Path(__file__).parent / "corpus"
LLAMA = dict(vocab_size=6, hidden_size=8, num_hidden_layers=2, intermediate_size=5, num_attention_heads=2,
             num_key_value_heads=1, max_position_embeddings=9)
CONFIGS = {
    "llama": LLAMA | dict(model_type="llama", hidden_act="silu", eos_token_id=[2, 3]),
    "llama3": LLAMA | dict(model_type="llama", hidden_act="gelu", rope_theta=500.0, rope_scaling=dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=4)),
    "linear": LLAMA | dict(model_type="llama", hidden_act="relu2", rope_parameters=dict(
        rope_type="linear", factor=2.0, rope_theta=100.0)),
    "fatrelu": LLAMA | dict(model_type="sparsellama", hidden_act="fatrelu", hidden_act_param=0.01),
    "mistral": LLAMA | dict(model_type="mistral", sliding_window=2, head_dim=4),
    "arcee": LLAMA | dict(model_type="arcee", mlp_bias=True),
    "nemotron": LLAMA | dict(model_type="nemotron", partial_rotary_factor=0.5, norm_eps=1e-5),
    "gemma2": LLAMA | dict(model_type="gemma2", head_dim=4, sliding_window=3, query_pre_attn_scalar=4,
                           layer_types=["sliding_attention", "full_attention"]),
    "gemma3n": LLAMA | dict(model_type="gemma3n_text", head_dim=4, sliding_window=3, num_kv_shared_layers=1,
                            layer_types=["sliding_attention", "sliding_attention"], altup_num_inputs=3, laurel_rank=2,
                            hidden_size_per_layer_input=3, vocab_size_per_layer_input=5,
                            activation_sparsity_pattern=[0.6, 0.0]),
    "gpt2": dict(model_type="gpt2", vocab_size=6, n_embd=8, n_layer=2, n_inner=5, n_head=2, n_positions=9,
                 activation_function="gelu_new", scale_attn_by_inverse_layer_idx=True),
    "opt": dict(model_type="opt", vocab_size=6, hidden_size=8, num_hidden_layers=2, ffn_dim=5, num_attention_heads=2,
                max_position_embeddings=9, word_embed_proj_dim=4, do_layer_norm_before=False),
    "spark": LLAMA | dict(model_type="spark", head_dim=4, hidden_act="gelu_pytorch_tanh", use_post_norms=True, ffn_active_neurons=2,
                          ffn_predictor_size=4, attention_active_keys=2, attention_predictor_size=2),
}


def write_gguf(kind, quantised=False):
    generator = np.random.default_rng(1)
    width, ff, vocab, layers, heads, kv, head = (32, 32, 6, 1, 2, 1, 16) if quantised else (8, 5, 6, 1, 2, 1, 4)
    layers += kind == "gemma3n"  # one that reads the other's keys
    name = kind + ("_q8_0" if quantised else "")
    writer = gguf.GGUFWriter(str(HERE / "gguf" / f"{name}.gguf"), kind)
    writer.add_block_count(layers)
    writer.add_context_length(9)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(ff)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads if kind == "gpt2" else kv)
    if kind in ("gpt2", "nemotron"):
        writer.add_layer_norm_eps(1e-5)
    else:
        writer.add_layer_norm_rms_eps(1e-5)
    if kind == "nemotron":
        writer.add_rope_dimension_count(2)
    if kind in ("gemma2", "gemma3n"):
        writer.add_key_length(head)
        writer.add_value_length(head)
        writer.add_sliding_window(3)
    if kind == "gemma2":
        writer.add_attn_logit_softcapping(50.0)
    if kind == "gemma3n":
        writer.add_altup_active_idx(0)
        writer.add_altup_num_inputs(3)
        writer.add_embedding_length_per_layer_input(3)
        writer.add_shared_kv_layers(1)
        writer.add_activation_sparsity_scale([0.25, -math.inf])
        writer.add_sliding_window_pattern([True, True])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)

    def add(tensor, *shape):
        values = generator.standard_normal(shape).astype(np.float32) / 4
        if quantised and len(shape) == 2:
            packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(tensor, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(tensor, values)

    bias = kind == "gpt2"

    def norm(tensor):
        add(tensor + ".weight", width)
        if kind in ("gpt2", "nemotron"):
            add(tensor + ".bias", width)

    def linear(tensor, out, into):
        add(tensor + ".weight", out, into)
        if bias:
            add(tensor + ".bias", out)

    add("token_embd.weight", vocab, width)
    if kind == "gpt2":
        add("position_embd.weight", 9, width)
    norm("output_norm")
    if kind == "gemma3n":
        add("altup_proj.weight", 2, width, width)
        add("altup_unembd_proj.weight", 2, width, width)
        add("per_layer_token_embd.weight", vocab, 3 * layers)
        add("per_layer_model_proj.weight", 3 * layers, width)
        add("per_layer_proj_norm.weight", 3)
    for layer in range(layers):
        p = f"blk.{layer}."
        norm(p + "attn_norm")
        norm(p + "ffn_norm")
        if kind == "gemma3n":
            add(p + "attn_q_norm.weight", head)
            add(p + "attn_k_norm.weight", head)
            for tensor in ("altup_router_norm", "altup_correct_scale", "laurel_post_norm", "post_norm"):
                norm(p + tensor)
            for tensor, out, into in (("altup_router", 3, width), ("altup_predict_coef", 9, 3), ("altup_correct_coef", 3, 3),
                                      ("laurel_l", 2, width), ("laurel_r", width, 2), ("inp_gate", 3, width),
                                      ("proj", width, 3)):
                linear(p + tensor, out, into)
        if kind in ("gemma2", "gemma3n"):
            norm(p + "post_attention_norm")
            norm(p + "post_ffw_norm")
        if kind == "gpt2":
            linear(p + "attn_qkv", 3 * width, width)
        else:
            linear(p + "attn_q", heads * head, width)
            linear(p + "attn_k", kv * head, width)
            linear(p + "attn_v", kv * head, width)
        linear(p + "attn_output", width, width if kind == "gpt2" else heads * head)
        if kind in ("llama", "gemma2", "gemma3n"):
            linear(p + "ffn_gate", ff, width)
        linear(p + "ffn_up", ff, width)
        linear(p + "ffn_down", width, ff)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_packed(torpor):
    (HERE / "packed").mkdir(parents=True, exist_ok=True)
    for source in sorted((HERE / "gguf").glob("*.gguf")):
        with tempfile.TemporaryDirectory() as folder:
            kind = "q8" if "q8_0" in source.name else "f32"
            done = subprocess.run([torpor, "pack", source, "--type", kind, "-q", "-o", folder], capture_output=True)
            if done.returncode == 3:  # a seed that is refused on purpose
                continue
            done.check_returncode()
            config = (pathlib.Path(folder) / "config.json").read_bytes()
            weights = (pathlib.Path(folder) / "packed.safetensors").read_bytes()
        (HERE / "packed" / f"{source.stem}.bin").write_bytes(len(config).to_bytes(2, "little") + config + weights)


def main():
    if len(sys.argv) > 1:
        return write_packed(sys.argv[1])
    for folder in ("config", "gguf"):
        (HERE / folder).mkdir(parents=True, exist_ok=True)
    for name, config in CONFIGS.items():
        (HERE / "config" / f"{name}.json").write_text(json.dumps(config))
    for kind in ("llama", "arcee", "nemotron", "gemma2", "gemma3n", "gpt2"):
        write_gguf(kind)
    write_gguf("llama", quantised=True)


if __name__ == "__main__":
    main()
