#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "engine/models/config_dialects.h"
#include "engine/models/config_huggingface.h"

namespace torpor {
namespace {

constexpr std::array<std::array<std::string_view, 2>, 9> kClasses{{{"llama", "LlamaForCausalLM"},
                                                                   {"mistral", "MistralForCausalLM"},
                                                                   {"arcee", "ArceeForCausalLM"},
                                                                   {"nemotron", "NemotronForCausalLM"},
                                                                   {"gemma2", "Gemma2ForCausalLM"},
                                                                   {"gemma3n_text", "Gemma3nForCausalLM"},
                                                                   {"spark", "SparkForCausalLM"},
                                                                   {"gpt2", "GPT2LMHeadModel"},
                                                                   {"opt", "OPTForCausalLM"}}};
constexpr std::array<std::array<std::string_view, 2>, 3> kTypes{
    {{"f32", "float32"}, {"bf16", "bfloat16"}, {"f16", "float16"}}};

template <std::size_t N>
std::string second_of(const std::array<std::array<std::string_view, 2>, N>& table, std::string_view first,
                      const char* what) {
  for (const auto& row : table)
    if (row[0] == first) return std::string(row[1]);
  throw InvalidArgument("[write_huggingface_config] expected {} that Hugging Face's format knows, got \"{}\"", what,
                        first);
}

/// The shortest number that reads back as `x`: 1e-05, not 9.999999747378752e-06.
double plain(float x) {
  return std::stod(fmt::format("{}", x));
}

/// A cap, or null for none.
Json cap_or_null(float cap) {
  return cap > 0 ? Json(plain(cap)) : Json();
}

void write_rope(const ModelConfig& c, Json& json) {
  json["rope_theta"] = plain(c.rope_theta);
  if (c.model_type == "nemotron")
    json["partial_rotary_factor"] = static_cast<double>(c.rope_dims) / static_cast<double>(c.head_dim);
  if (c.rope_scaling == RopeScaling::linear)
    json["rope_scaling"] = {{"rope_type", "linear"}, {"factor", plain(c.rope_factor)}};
  if (c.rope_scaling == RopeScaling::llama3)
    json["rope_scaling"] = {{"rope_type", "llama3"},
                            {"factor", plain(c.rope_factor)},
                            {"low_freq_factor", plain(c.rope_low_freq_factor)},
                            {"high_freq_factor", plain(c.rope_high_freq_factor)},
                            {"original_max_position_embeddings", c.rope_original_context}};
}

void write_layer_types(const ModelConfig& c, Json& json) {
  Json types = Json::array();
  int window = 0;
  for (const int w : c.windows) {
    types.push_back(w > 0 ? "sliding_attention" : "full_attention");
    window = std::max(window, w);
  }
  if (window > 0) json["sliding_window"] = window;
  json["layer_types"] = types;
}

void write_gemma2(const ModelConfig& c, Json& json) {
  json["attn_logit_softcapping"] = cap_or_null(c.attention_soft_cap);
  json["final_logit_softcapping"] = cap_or_null(c.logit_soft_cap);
  const double scalar = plain(std::round(1e4F / (c.attention_scale * c.attention_scale)) / 1e4F);
  json["query_pre_attn_scalar"] = scalar;
  if (scalar == std::floor(scalar)) json["query_pre_attn_scalar"] = static_cast<std::int64_t>(scalar);  // 16, not 16.0
  write_layer_types(c, json);
}

void write_gemma3n(const ModelConfig& c, Json& json) {
  json["final_logit_softcapping"] = cap_or_null(c.logit_soft_cap);
  json["rope_parameters"] = {
      {"full_attention", {{"rope_type", "default"}, {"rope_theta", plain(c.rope_theta)}}},
      {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", plain(c.rope_local_theta)}}}};
  json["num_kv_shared_layers"] = c.shared_cache_layers;
  Json sparsity = Json::array();
  for (const float share : c.gate_sparsity) sparsity.push_back(plain(share));
  json["activation_sparsity_pattern"] = sparsity;
  json["altup_num_inputs"] = c.altup.inputs;
  json["altup_active_idx"] = c.altup.active;
  json["altup_correct_scale"] = c.altup.correct_scale;
  json["laurel_rank"] = c.altup.laurel_rank;
  json["hidden_size_per_layer_input"] = c.altup.layer_input;
  json["vocab_size_per_layer_input"] = c.altup.layer_vocab_size;
  write_layer_types(c, json);
}

void write_spark(const ModelConfig& c, Json& json) {
  json["use_post_norms"] = c.norm_after;
  const auto set = [&](const char* key, int value) {
    if (value > 0) json[key] = value;
  };
  set("ffn_active_neurons", c.spark.ffn_active);
  set("ffn_predictor_size", c.spark.ffn_predictor);
  set("attention_active_keys", c.spark.attention_active);
  set("attention_predictor_size", c.spark.attention_predictor);
  if (!c.windows.empty() && c.windows.front() > 0) json["sliding_window"] = c.windows.front();
}

void write_opt(const ModelConfig& c, Json& json) {
  json["enable_bias"] = c.ffn_bias;
  json["do_layer_norm_before"] = c.norm_first;
  json["layer_norm_elementwise_affine"] = c.norm_affine;
  if (c.norm_first && !c.final_norm) json["_remove_final_layer_norm"] = true;
  json["word_embed_proj_dim"] = c.d_embedding;
}

}  // namespace

Json write_huggingface_config(const ModelConfig& c, std::string_view weights) {
  Json json;
  json["architectures"] = {second_of(kClasses, c.model_type, "a model_type")};
  json["model_type"] = c.model_type;
  json["torch_dtype"] = second_of(kTypes, weights, "a type of weights");
  const Dialect& d = *std::find_if(kDialects.begin(), kDialects.end(),
                                   [&](const Dialect& dialect) { return dialect.model_type == c.model_type; });
  const auto set = [&](std::string_view key, const Json& value) {
    if (!key.empty()) json[std::string(key)] = value;
  };
  json["vocab_size"] = c.vocab_size;
  set(d.d_model, c.d_model);
  set(d.d_ff, c.d_ff);
  set(d.layers, c.n_layers);
  set(d.heads, c.n_heads);
  set(d.kv_heads, c.n_kv_heads);
  if (d.positions == Positions::rope) json["head_dim"] = c.head_dim;
  set(d.context, c.context_length);
  set(d.activation, c.activation_threshold > 0 ? std::string("fatrelu") : std::string(name_of(c.activation)));
  if (c.activation_threshold > 0) json["hidden_act_param"] = plain(c.activation_threshold);
  set(d.eps, plain(c.norm_eps));
  json["tie_word_embeddings"] = c.tied_embeddings;
  if (c.model_type == "gemma3n_text") {
    write_gemma3n(c, json);
  } else if (d.positions == Positions::rope) {
    write_rope(c, json);
    if (c.model_type != "mistral") json["attention_bias"] = c.attention_bias;
    if (c.model_type != "mistral" && c.model_type != "gemma2") json["mlp_bias"] = c.ffn_bias;
  }
  if (c.model_type == "mistral") json["sliding_window"] = c.windows.front() > 0 ? Json(c.windows.front()) : Json();
  if (c.model_type == "gemma2") write_gemma2(c, json);
  if (c.model_type == "gpt2") {
    json["scale_attn_by_inverse_layer_idx"] = c.attention_scale_by_layer;
    json["scale_attn_weights"] = c.attention_scale != 1;
  }
  if (c.model_type == "spark") write_spark(c, json);
  if (c.model_type == "opt") write_opt(c, json);
  // null where there is none: transformers has a default for each family, which may lie outside this vocabulary.
  json["bos_token_id"] = c.bos >= 0 ? Json(c.bos) : Json();
  json["eos_token_id"] = c.stop_ids.size() > 1 ? Json(c.stop_ids) : c.eos >= 0 ? Json(c.eos) : Json();

  // What was written must say the same: the format has no place for everything that a ModelConfig can be.
  ModelConfig back = read_huggingface_config(json, "config.json");
  if (c.model_type == "llama") back.gated = c.gated;  // seen from the tensors
  if (canonical_text(back) != canonical_text(c))
    throw InvalidArgument(
        "[write_huggingface_config] expected a config that a {} model of Hugging Face can have. Wanted: {}. Would be "
        "read "
        "as: {}",
        c.model_type, canonical_text(c), canonical_text(back));
  return json;
}

}  // namespace torpor
