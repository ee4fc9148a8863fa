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
  // Gemma 3n (AltUpWeights, AltUpLayerWeights)
  query_norm,
  key_norm,
  stream_in,
  stream_out,
  layer_embedding,
  layer_input_projection,
  layer_input_norm,
  router_norm,
  router,
  predict_coefs,
  correct_coefs,
  correct_scale,
  laurel_left,
  laurel_right,
  laurel_norm,
  input_gate,
  input_projection,
  input_norm,
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
  layers,
  head,
  streams,          // Gemma 3n's
  other_streams,    // all but one
  squared_streams,  // one coefficient for each pair
  laurel,
  layer_input,  // an own embedding of a layer, and of all layers
  layer_inputs,
  layer_vocab,
};
std::int64_t size_of(Dimension axis, const ModelConfig& config);

using Condition = bool (*)(const ModelConfig&);
using LayerCondition = bool (*)(const ModelConfig&, int layer);

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
  bool bare = false;             // Hugging Face's name has no ".weight"
  bool stacked = false;          // GGUF has the tensors of all numbers in one of three dimensions, named without {}
  LayerCondition in_layer = nullptr;    // which layers use it; the files may have it for others; null: all
  Dimension times = Dimension::layers;  // what {} counts
};

struct Architecture {
  std::string_view model_type;             // ModelConfig::model_type
  std::string_view gguf;                   // general.architecture; empty: GGUF has none
  std::vector<std::string_view> prefixes;  // Hugging Face's, tried in this order
  std::vector<TensorRule> tensors;
  std::vector<std::string_view> harmless;     // ends of names that no computation needs (buffers of older versions)
  std::vector<std::string_view> elsewhere{};  // beginnings of names of models that lie in the same files
};

std::span<const Architecture> architectures();
/// Throws BadInput naming `where`.
const Architecture& architecture_of(std::string_view model_type, const std::string& where);
/// By general.architecture; null if unknown.
const Architecture* architecture_of_gguf(std::string_view name);

/// "model.layers.3.mlp.up_proj" of pattern "layers.{}.mlp.up_proj".
std::string expand(std::string_view pattern, std::string_view prefix, int number);
/// Whether the pattern has a number in it.
bool numbered(std::string_view pattern);

/// What {} of a rule's pattern stands for in turn: 0, 1, …; -1 alone where the pattern has none.
std::vector<int> numbers_of(const TensorRule& rule, std::string_view pattern, const ModelConfig& config);

/// What a rule's tensors are called: "model.layers.3.mlp.up_proj.weight" and "….bias".
struct TensorNames {
  std::string weight, bias;
};
/// In GGUF, else in Hugging Face's files, with GGUF's name where they have none (a packed model's). number: what {}
/// stands for.
TensorNames names_of(const TensorRule& rule, bool gguf, std::string_view prefix, int number);
/// The pattern that names_of expands; empty: no such tensor.
std::string_view pattern_of(const TensorRule& rule, bool gguf, bool packed);

}  // namespace torpor
