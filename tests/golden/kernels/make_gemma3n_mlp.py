#!/usr/bin/env python3
"""Makes gemma3n_mlp.safetensors: what transformers' Gemma3nTextMLP computes, with its Gaussian top-k.

    pip install torch transformers safetensors
    make_gemma3n_mlp.py
"""
import pathlib

import torch
from safetensors.torch import save_file
from transformers.models.gemma3n.configuration_gemma3n import Gemma3nTextConfig
from transformers.models.gemma3n.modeling_gemma3n import Gemma3nTextMLP

SPARSITY = [0.95, 0.5]
torch.manual_seed(0)
config = Gemma3nTextConfig(hidden_size=48, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=12,
                           vocab_size=64, vocab_size_per_layer_input=64, hidden_size_per_layer_input=8, num_kv_shared_layers=0,
                           layer_types=["sliding_attention", "full_attention"], activation_sparsity_pattern=SPARSITY)
x = torch.randn(6, 48)
tensors = {"x": x}
for layer in range(2):
    mlp = Gemma3nTextMLP(config, layer)
    with torch.no_grad():
        for name, weight in mlp.named_parameters():
            weight.copy_(torch.randn_like(weight) / weight.shape[1] ** 0.5)
            tensors[f"{layer}.{name}"] = weight.detach().clone()
        tensors[f"{layer}.out"] = mlp(x)
save_file(tensors, pathlib.Path(__file__).parent / "gemma3n_mlp.safetensors", {"sparsity": str(SPARSITY)})
