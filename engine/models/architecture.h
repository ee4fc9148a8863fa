// The architecture table: which tensors a model of each kind consists of, what they are called in Hugging Face folders
// and in GGUF files, and which shape the configuration gives them. Data only; model.cpp walks it. To add an
// architecture: a dialect in config_huggingface.cpp (and config_gguf.cpp), an entry here, a golden model in
// tests/golden/models/make_models.py. A block that is built otherwise also needs its step in decode/session.cpp.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/models/model_config.h"

namespace torpor {

/// What a tensor becomes in Model.
enum class Part : std::uint8_t {
  token_embedding,
  position_embedding,
  embedding_in,
  embedding_out,
  final_norm,
  unembedding,
  rope_divisors,
  attention_norm,
  post_attention_norm,
  ffn_norm,
  post_ffn_norm,
  query,
  key,
  value,
  query_key_value,
  attention_output,
  gate,
  up,
  down,
};

/// Sizes that shapes are made of.
enum class Dimension : std::uint8_t {
  none,
  model,
  ff,
  query,
  kv,
  query_key_value,
  vocab,
  embedding,
  positions,
  rope_pairs,
  ffn_predictor,  // leading values of the FFN's input that score neurons (Spark)
  ffn_rest,       // the others; all where there is no predictor
};
std::int64_t size_of(Dimension axis, const ModelConfig& config);

using Condition = bool (*)(const ModelConfig&);

struct TensorRule {
  Part part;
  std::string_view huggingface;  // without the prefix and without ".weight"; {} is the layer; empty: not there
  std::string_view gguf;         // without ".weight"; empty: not there
  Dimension out, in;             // the shape is [out, in], or [out] where `in` is none
  Condition weight = nullptr;    // whether the file must have it; null: always
  Condition bias = nullptr;      // whether it has a bias, [out]; null: never
  bool optional = false;         // may be absent
  bool transposed = false;       // Hugging Face stores [in, out] (GPT-2's Conv1D)
  bool rootless = false;         // Hugging Face's name has no prefix (lm_head)
};

struct Architecture {
  std::string_view model_type;             // ModelConfig::model_type
  std::string_view gguf;                   // general.architecture; empty: GGUF has none
  std::vector<std::string_view> prefixes;  // Hugging Face's, tried in this order
  std::vector<TensorRule> tensors;
  std::vector<std::string_view> harmless;  // ends of names that no computation needs (buffers of older versions)
};

std::span<const Architecture> architectures();
/// Throws BadInput naming `where`.
const Architecture& architecture_of(std::string_view model_type, const std::string& where);
/// By general.architecture; null if unknown.
const Architecture* architecture_of_gguf(std::string_view name);

/// "model.layers.3.mlp.up_proj" of pattern "layers.{}.mlp.up_proj".
std::string expand(std::string_view pattern, std::string_view prefix, int layer);
/// Whether the pattern has a layer in it.
bool per_layer(std::string_view pattern);

}  // namespace torpor
