"""Makes the small random-weight models that the engine's parity tests run, with transformers as the oracle.

    pip install torch transformers safetensors gguf
    python tests/golden/models/make_models.py [NAME …]   # rewrites every folder beside this file, or these

Each folder is a Hugging Face model folder (config.json, model.safetensors) plus expected.safetensors: `ids` [64] int32 and
`logits` [64, vocab] f32 from transformers (eager attention, f32). Weights are drawn large, so that logits, soft caps and
windows matter. Where the file is bf16 or f16, the logits are those of the rounded weights computed in f32.
`*.gguf` are written with the PyPI gguf package from the same weights, following llama.cpp's conversion: query and key rows
permuted for llama and arcee, Conv1D transposed for gpt2, 1 added to norm weights for nemotron and gemma2, the projections
of Gemma 3n's streams stacked.
"""

import json
import math
import pathlib
import shutil
import sys
import zlib

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
POSITIONS = 64

BASE = dict(vocab_size=61, hidden_size=24, intermediate_size=53, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=96, bos_token_id=1, eos_token_id=2, pad_token_id=0)
GPT2 = dict(vocab_size=61, n_embd=24, n_inner=53, n_layer=2, n_head=4, n_positions=96, bos_token_id=1, eos_token_id=2)
OPT = dict(vocab_size=61, hidden_size=24, ffn_dim=53, num_hidden_layers=2, num_attention_heads=4,
           max_position_embeddings=96, bos_token_id=1, eos_token_id=2, pad_token_id=0)
LLAMA3 = dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=28, rope_theta=30.0)  # one wave kept, one blended, one stretched

GEMMA3N = BASE | dict(num_hidden_layers=7, head_dim=6, num_key_value_heads=1, hidden_size_per_layer_input=5,
                      intermediate_size=53, vocab_size_per_layer_input=61, laurel_rank=3, sliding_window=9,
                      num_kv_shared_layers=3, altup_num_inputs=4, final_logit_softcapping=8.0, rms_norm_eps=1e-2,
                      activation_sparsity_pattern=[0.95, 0.8, 0.95, 0.0, 0.0, 0.0, 0.0],
                      layer_types=["sliding_attention", "full_attention", "full_attention", "sliding_attention",
                                   "sliding_attention", "full_attention", "sliding_attention"],
                      rope_parameters=dict(full_attention=dict(rope_type="default", rope_theta=500.0),
                                           sliding_attention=dict(rope_type="default", rope_theta=20.0)))

# name: (model_type, settings, options). Options: dtype of the file, old (transformers 4's config), gguf, strip (prefix
# removed from the names), shards, whole (nested as Gemma3nForConditionalGeneration is), fatrelu (threshold: ProSparse), ungated (SparseLLM's relu2-*: no up_proj).
MODELS = {
    "llama_silu": ("llama", BASE | dict(rms_norm_eps=1e-2), dict(old=True, gguf=True)),
    "llama_tied_bias": ("llama", BASE | dict(tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
                                             num_key_value_heads=4), dict(gguf=True)),
    "llama_head_dim": ("llama", BASE | dict(head_dim=10, num_key_value_heads=1, hidden_act="relu"), dict(dtype="bf16")),
    "llama_rope_llama3": ("llama", BASE | dict(rope_parameters=LLAMA3, hidden_act="gelu"), dict(gguf=True)),
    "llama_rope_llama3_old": ("llama", BASE | dict(rope_parameters=LLAMA3, hidden_act="gelu_new"),
                              dict(old=True, dtype="bf16")),
    "llama_rope_linear": ("llama", BASE | dict(rope_parameters=dict(rope_type="linear", factor=2.5, rope_theta=500.0),
                                               hidden_act="relu2"), dict(dtype="f16", strip="model.")),
    "llama_sharded": ("llama", BASE | dict(hidden_act="gelu_pytorch_tanh", tie_word_embeddings=True),
                      dict(shards=3, dtype="bf16")),
    "llama_fatrelu": ("llama", BASE | dict(hidden_act="relu"), dict(fatrelu=0.75, dtype="bf16", old=True)),
    "llama_ungated": ("llama", BASE | dict(hidden_act="relu2"), dict(ungated=True, dtype="f16", old=True)),
    "mistral_window": ("mistral", BASE | dict(sliding_window=9), dict(old=True)),
    "mistral_no_window": ("mistral", BASE | dict(sliding_window=None, head_dim=8), dict(dtype="bf16")),
    "arcee": ("arcee", BASE | dict(num_key_value_heads=4), dict(gguf=True)),
    "arcee_tied_bias": ("arcee", BASE | dict(tie_word_embeddings=True, attention_bias=True, mlp_bias=True),
                        dict(dtype="bf16")),
    "nemotron": ("nemotron", BASE | dict(partial_rotary_factor=0.5, head_dim=8, num_attention_heads=3,
                                         num_key_value_heads=1, norm_eps=1e-2), dict(gguf=True, old=True)),
    "nemotron_bias": ("nemotron", BASE | dict(partial_rotary_factor=0.3, head_dim=10, attention_bias=True,
                                              mlp_bias=True, tie_word_embeddings=True), dict(dtype="bf16")),
    "gpt2": ("gpt2", GPT2, dict(gguf=True)),
    "gpt2_untied_relu": ("gpt2", GPT2 | dict(tie_word_embeddings=False, activation_function="relu", n_inner=None,
                                             layer_norm_epsilon=1e-2, scale_attn_by_inverse_layer_idx=True),
                         dict(dtype="f16", strip="transformer.")),
    "opt": ("opt", OPT, dict()),
    "opt_350m": ("opt", OPT | dict(do_layer_norm_before=False, word_embed_proj_dim=16), dict(strip="model.")),
    "opt_no_bias": ("opt", OPT | dict(enable_bias=False, layer_norm_elementwise_affine=False,
                                      activation_function="gelu"), dict(dtype="bf16")),
    "gemma2": ("gemma2", BASE | dict(num_hidden_layers=3, head_dim=10, query_pre_attn_scalar=10, sliding_window=9,
                                     attn_logit_softcapping=4.0, final_logit_softcapping=5.0, rms_norm_eps=1e-2),
               dict(old=True, gguf=True)),
    "gemma2_bias": ("gemma2", BASE | dict(head_dim=8, query_pre_attn_scalar=24, sliding_window=11,
                                          attention_bias=True, final_logit_softcapping=None,
                                          attn_logit_softcapping=None, layer_types=["full_attention",
                                                                                    "sliding_attention"]),
                    dict(dtype="bf16")),
    # Layers 0 and 3 share nothing, 4 to 6 read the keys and values of 3 (window) and 2 (none); sparse gates in 0 to 2.
    "gemma3n": ("gemma3n_text", GEMMA3N, dict(gguf=True)),
    # A language model inside one that also sees and hears, in bf16; another active stream, tokens without an own embedding.
    "gemma3n_whole": ("gemma3n_text", GEMMA3N | dict(altup_active_idx=1, altup_num_inputs=3, altup_correct_scale=False,
                                                     vocab_size_per_layer_input=50, num_kv_shared_layers=0,
                                                     activation_sparsity_pattern=[0.95] + [0.0] * 6,
                                                     final_logit_softcapping=4.0, sliding_window=5),
                      dict(dtype="bf16", whole=True)),
}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def randomise(model, generator):
    for name, tensor in model.named_parameters():
        noise = torch.randn(tensor.shape, generator=generator)
        if "norm" in name or ".ln_" in name:
            centre = 0.0 if name.endswith("bias") else (0.0 if model.config.model_type in ("gemma2", "nemotron") else 1.0)
            tensor.data = centre + 0.3 * noise
        elif name.endswith("bias"):
            tensor.data = 0.5 * noise
        elif name.endswith("correct_output_scale"):
            tensor.data = 1 + 0.3 * noise
        elif "embed" in name or ".wte" in name or ".wpe" in name:
            scale = math.sqrt(model.config.hidden_size) if model.config.model_type.startswith("gemma") else 1.0
            tensor.data = noise / scale
        else:
            tensor.data = 1.7 * noise / math.sqrt(min(tensor.shape) if min(tensor.shape) > 8 else max(tensor.shape))
    model.tie_weights()


class FatRelu(torch.nn.Module):
    """ProSparse's activation: x where x >= threshold, else 0."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold = threshold

    def forward(self, x):
        return torch.where(x >= self.threshold, x, torch.zeros_like(x))


def alter(model, options):
    """Models that transformers has no class for."""
    for layer in model.model.layers if "fatrelu" in options or "ungated" in options else []:
        mlp = layer.mlp
        if "fatrelu" in options:
            mlp.act_fn = FatRelu(options["fatrelu"])
        if "ungated" in options:
            mlp.forward = lambda x, mlp=mlp: mlp.down_proj(mlp.act_fn(mlp.gate_proj(x)))


def old_style(config):
    """RoPE and dtype as transformers 4 wrote them."""
    rope = config.pop("rope_parameters", None)
    if rope is not None:
        config["rope_theta"] = rope.pop("rope_theta")
        if "partial_rotary_factor" in rope:
            config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
        config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    config["torch_dtype"] = config.pop("dtype", "float32")
    config.pop("layer_types", None)
    return config


def permute(weight, heads):
    """llama.cpp's order of query and key rows: pairs side by side."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "model.embed_tokens_per_layer": "per_layer_token_embd", "model.per_layer_model_projection": "per_layer_model_proj",
    "model.per_layer_projection_norm": "per_layer_proj_norm", "model.altup_projections": "altup_proj",
    "model.altup_unembed_projections": "altup_unembd_proj",
    "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm",
}
GGUF_BLOCK = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "post_attention_layernorm": "ffn_norm",
    "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm",
    "ln_1": "attn_norm", "ln_2": "ffn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "altup.router_norm": "altup_router_norm",
    "altup.modality_router": "altup_router", "altup.prediction_coefs": "altup_predict_coef",
    "altup.correction_coefs": "altup_correct_coef", "altup.correct_output_scale": "altup_correct_scale",
    "laurel.linear_left": "laurel_l", "laurel.linear_right": "laurel_r", "laurel.post_laurel_norm": "laurel_post_norm",
    "per_layer_input_gate": "inp_gate", "per_layer_projection": "proj", "post_per_layer_input_norm": "post_norm",
}


def write_gguf(path, kind, config, state):
    writer = gguf.GGUFWriter(str(path), kind)
    heads, width = config.num_attention_heads, config.hidden_size
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head_dim = getattr(config, "head_dim", None) or width // heads
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(config.n_inner if kind == "gpt2" else config.intermediate_size)  # Gemma 3n: a list
    writer.add_head_count(heads)
    if kind != "gpt2":
        writer.add_head_count_kv(kv_heads)
        writer.add_vocab_size(config.vocab_size)
        rope = config.rope_parameters["full_attention"] if kind == "gemma3n" else config.rope_parameters
        writer.add_rope_freq_base(rope["rope_theta"])
    if kind in ("llama", "arcee"):
        writer.add_rope_dimension_count(head_dim)
    if kind == "nemotron":
        writer.add_rope_dimension_count(int(head_dim * config.rope_parameters["partial_rotary_factor"]))
    if kind in ("gemma2", "gemma3n", "nemotron"):
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if kind in ("gpt2", "nemotron"):
        writer.add_layer_norm_eps(config.layer_norm_epsilon if kind == "gpt2" else config.norm_eps)
    else:
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if kind == "gemma3n":
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
        writer.add_altup_active_idx(config.altup_active_idx)
        writer.add_altup_num_inputs(config.altup_num_inputs)
        writer.add_embedding_length_per_layer_input(config.hidden_size_per_layer_input)
        writer.add_shared_kv_layers(config.num_kv_shared_layers)
        normal = torch.distributions.normal.Normal(0, 1)
        writer.add_activation_sparsity_scale(normal.icdf(torch.tensor(config.activation_sparsity_pattern)).tolist())
        writer.add_sliding_window(config.sliding_window)
        writer.add_sliding_window_pattern([t == "sliding_attention" for t in config.layer_types])
        writer.add_float32("gemma3n.rope.freq_base_swa", config.rope_parameters["sliding_attention"]["rope_theta"])
    if kind == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
        writer.add_sliding_window(config.sliding_window)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "llama3":
        base, factors = rope["rope_theta"], []
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        old = rope["original_max_position_embeddings"]
        for i in range(0, head_dim, 2):
            wavelen = 2 * math.pi * base ** (i / head_dim)
            if wavelen < old / high:
                factors.append(1.0)
            elif wavelen > old / low:
                factors.append(rope["factor"])
            else:
                smooth = (old / wavelen - low) / (high - low)
                factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
        writer.add_tensor("rope_freqs.weight", np.array(factors, np.float32))
    state = dict(state)
    for group in ("altup_projections", "altup_unembed_projections") if kind == "gemma3n" else []:
        parts = [state.pop(f"model.{group}.{i}.weight") for i in range(config.altup_num_inputs - 1)]
        state[f"model.{group}.weight"] = torch.stack(parts)
    for name, tensor in state.items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = tensor.float().numpy()
        stem, _, end = (name if not name.endswith("_scale") else name + ".weight").rpartition(".")
        if stem in GGUF_NAMES:
            target = GGUF_NAMES[stem]
        else:
            parts = stem.split(".")
            layer, rest = parts[2], ".".join(parts[3:])
            target = f"blk.{layer}.{GGUF_BLOCK[rest]}"
            if kind.startswith("gemma") and rest == "post_attention_layernorm":
                target = f"blk.{layer}.post_attention_norm"
            if kind in ("llama", "arcee") and rest == "self_attn.q_proj":
                array = permute(array, heads)
            if kind in ("llama", "arcee") and rest == "self_attn.k_proj":
                array = permute(array, kv_heads)
            if kind == "gpt2" and end == "weight" and array.ndim == 2:
                array = array.T
        if kind in ("gemma2", "nemotron") and end == "weight" and array.ndim == 1:
            array = array + 1
        writer.add_tensor(f"{target}.{end}", np.ascontiguousarray(array, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def save_weights(folder, state, shards):
    if shards == 1:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names, weight_map = list(state), {}
    for i in range(shards):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = names[i::shards]
        save_file({name: state[name] for name in part}, folder / file, metadata={"format": "pt"})
        weight_map.update({name: file for name in part})
    index = {"metadata": {"total_size": sum(t.numel() * t.element_size() for t in state.values())}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def make(name, kind, settings, options):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    config = AutoConfig.for_model(kind, **settings)
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    randomise(model, generator)
    alter(model, options)
    dtype = DTYPES[options.get("dtype", "f32")]
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype).float()
    ids = torch.randint(0, config.vocab_size, (1, POSITIONS), generator=generator)
    if kind.startswith("gemma") and dtype == torch.bfloat16:  # the embedding scale is rounded to the weights' format
        for embedding in filter(None, (model.model.embed_tokens, getattr(model.model, "embed_tokens_per_layer", None))):
            embedding.embed_scale = embedding.embed_scale.to(dtype).float()
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits[0].float()
    assert torch.isfinite(logits).all()
    state = {k: v.detach().clone().contiguous() for k, v in model.state_dict().items()}
    if options.get("gguf"):
        write_gguf(HERE / name / "model.gguf", kind.removesuffix("_text"), config, state)
    if config.tie_word_embeddings:
        state.pop("lm_head.weight")
    prefix = options.get("strip", "")
    state = {k.removeprefix(prefix): v.to(dtype) for k, v in state.items()
             if not ("ungated" in options and ".up_proj." in k)}
    for layer in range(config.num_hidden_layers - getattr(config, "num_kv_shared_layers", 0), config.num_hidden_layers):
        for part, shape in dict(k_proj=(6, 24), v_proj=(6, 24), k_norm=(6,)).items():  # in Google's files, read by nothing
            state[f"model.layers.{layer}.self_attn.{part}.weight"] = torch.full(shape, 9.0, dtype=dtype)
    if options.get("whole"):
        state = {k.replace("model.", "model.language_model.", 1): v for k, v in state.items()}
        state["model.vision_tower.patch_embed.weight"] = torch.zeros(2, 3, dtype=dtype)
        state["model.embed_audio.embedding.weight"] = torch.zeros(2, 3, dtype=dtype)
    save_weights(folder, state, options.get("shards", 1))
    written = json.loads(config.to_json_string(use_diff=False))
    keep = set(settings) | {"model_type", "tie_word_embeddings", "rope_parameters"}
    written = {k: v for k, v in written.items() if k in keep}
    written["dtype"] = str(dtype).removeprefix("torch.")
    if "fatrelu" in options:
        written.update(model_type="sparsellama", hidden_act="fatrelu", hidden_act_param=options["fatrelu"])
    if "ungated" in options:
        written["hidden_act"] = "relu"  # as in SparseLLM's files: the loader must be told relu2
    if options.get("old"):
        written = old_style(written)
    if options.get("whole"):
        ends = {key: written.pop(key) for key in ("bos_token_id", "eos_token_id")}
        written = {"model_type": "gemma3n", "text_config": written, "tie_word_embeddings": True} | ends
    (folder / "config.json").write_text(json.dumps(written, indent=1, sort_keys=True) + "\n")
    save_file({"ids": ids[0].to(torch.int32), "logits": logits}, folder / "expected.safetensors")
    top = logits.softmax(-1).max(-1).values.mean().item()
    print(f"{name:24s} max|logit| {logits.abs().max():8.3f}  mean top probability {top:.3f}")


def main():
    torch.manual_seed(0)
    for name, (kind, settings, options) in MODELS.items():
        if not sys.argv[1:] or name in sys.argv[1:]:
            make(name, kind, settings, options)


if __name__ == "__main__":
    main()
