// What each model_type calls its settings in config.json. Internal to the reader and the writer of that file.
#pragma once

#include <array>
#include <string_view>

#include "engine/models/model_config.h"

namespace torpor {

/// How one model_type names its settings and what transformers assumes where they are absent.
struct Dialect {
  std::string_view model_type;
  std::string_view layers, d_model, d_ff, heads, kv_heads, context, activation, eps;  // empty: no such setting
  std::string_view default_activation;                                                // empty: required
  double default_eps;
  bool tied_by_default;
  int default_kv_heads;  // 0: as many as heads
  int default_head_dim;  // 0: d_model / heads
  bool gated;
  Norm norm;
  float norm_weight_offset;
  Positions positions;
};

inline constexpr Dialect kLlama{.model_type = "llama",
                                .layers = "num_hidden_layers",
                                .d_model = "hidden_size",
                                .d_ff = "intermediate_size",
                                .heads = "num_attention_heads",
                                .kv_heads = "num_key_value_heads",
                                .context = "max_position_embeddings",
                                .activation = "hidden_act",
                                .eps = "rms_norm_eps",
                                .default_activation = "silu",
                                .default_eps = 1e-6,
                                .tied_by_default = false,
                                .default_kv_heads = 0,
                                .default_head_dim = 0,
                                .gated = true,
                                .norm = Norm::rms,
                                .norm_weight_offset = 0,
                                .positions = Positions::rope};

constexpr Dialect like_llama(std::string_view model_type, auto change) {
  Dialect dialect = kLlama;
  dialect.model_type = model_type;
  change(dialect);
  return dialect;
}

inline constexpr std::array kDialects{
    kLlama,
    like_llama("sparsellama", [](Dialect&) {}),  // ProSparse
    like_llama("mistral", [](Dialect& d) { d.default_kv_heads = 8; }),
    like_llama("arcee",
               [](Dialect& d) {
                 d.default_activation = "relu2";
                 d.default_eps = 1e-5;
                 d.gated = false;
               }),
    like_llama("nemotron",
               [](Dialect& d) {
                 d.default_activation = "relu2";
                 d.eps = "norm_eps";
                 d.default_eps = 1e-5;
                 d.gated = false;
                 d.norm = Norm::layer;
                 d.norm_weight_offset = 1;
               }),
    like_llama("gemma2",
               [](Dialect& d) {
                 d.activation = "hidden_activation";
                 d.default_activation = "gelu_pytorch_tanh";
                 d.tied_by_default = true;
                 d.default_kv_heads = 4;
                 d.default_head_dim = 256;
                 d.norm_weight_offset = 1;
               }),
    like_llama("gemma3n_text",
               [](Dialect& d) {
                 d.activation = "hidden_activation";
                 d.default_activation = "gelu_pytorch_tanh";
                 d.tied_by_default = true;
                 d.default_kv_heads = 2;
                 d.default_head_dim = 256;
               }),
    like_llama("spark",  // our own: docs/papers/spark.md
               [](Dialect& d) {
                 d.default_activation = "gelu_pytorch_tanh";
                 d.tied_by_default = true;
                 d.norm_weight_offset = 1;
               }),
    Dialect{.model_type = "gpt2",
            .layers = "n_layer",
            .d_model = "n_embd",
            .d_ff = "n_inner",
            .heads = "n_head",
            .kv_heads = "",
            .context = "n_positions",
            .activation = "activation_function",
            .eps = "layer_norm_epsilon",
            .default_activation = "gelu_new",
            .default_eps = 1e-5,
            .tied_by_default = true,
            .default_kv_heads = 0,
            .default_head_dim = 0,
            .gated = false,
            .norm = Norm::layer,
            .norm_weight_offset = 0,
            .positions = Positions::learned},
    Dialect{.model_type = "opt",
            .layers = "num_hidden_layers",
            .d_model = "hidden_size",
            .d_ff = "ffn_dim",
            .heads = "num_attention_heads",
            .kv_heads = "",
            .context = "max_position_embeddings",
            .activation = "activation_function",
            .eps = "",
            .default_activation = "relu",
            .default_eps = 1e-5,  // torch.nn.LayerNorm's
            .tied_by_default = true,
            .default_kv_heads = 0,
            .default_head_dim = 0,
            .gated = false,
            .norm = Norm::layer,
            .norm_weight_offset = 0,
            .positions = Positions::learned},
};

}  // namespace torpor
