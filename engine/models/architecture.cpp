#include "engine/models/architecture.h"

#include <algorithm>
#include <numeric>

#include "core/base/error.h"

namespace torpor {
namespace {

using Rules = std::vector<TensorRule>;

bool attention_bias(const ModelConfig& c) {
  return c.attention_bias;
}
bool attention_output_bias(const ModelConfig& c) {
  return c.attention_output_bias;
}
bool ffn_bias(const ModelConfig& c) {
  return c.ffn_bias;
}
bool untied(const ModelConfig& c) {
  return !c.tied_embeddings;
}
bool gated(const ModelConfig& c) {
  return c.gated;
}
bool ungated(const ModelConfig& c) {
  return !c.gated;
}
bool layer_norm(const ModelConfig& c) {
  return c.norm == Norm::layer && c.norm_affine;
}
bool affine(const ModelConfig& c) {
  return c.norm_affine;
}
bool final_affine(const ModelConfig& c) {
  return c.final_norm && c.norm_affine;
}
bool predictor(const ModelConfig& c) {
  return c.spark.ffn_predictor > 0;
}
bool whole_gate(const ModelConfig& c) {
  return c.spark.ffn_predictor == 0;
}
bool norm_after(const ModelConfig& c) {
  return c.norm_after;
}
bool owns_cache(const ModelConfig& c, int layer) {
  return cache_layer(c, layer) == layer;
}
bool projected(const ModelConfig& c) {
  return c.d_embedding != c.d_model;
}

Rules operator+(Rules left, const Rules& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

// What Llama and its relatives share.
Rules llama_ends() {
  return {
      {.part = Part::token_embedding,
       .huggingface = "embed_tokens",
       .gguf = "token_embd",
       .out = Dimension::vocab,
       .in = Dimension::model},
      {.part = Part::final_norm,
       .huggingface = "norm",
       .gguf = "output_norm",
       .out = Dimension::model,
       .in = Dimension::none,
       .bias = layer_norm},
      {.part = Part::unembedding,
       .huggingface = "lm_head",
       .gguf = "output",
       .out = Dimension::vocab,
       .in = Dimension::model,
       .weight = untied,
       .rootless = true},
  };
}

Rules llama_attention() {
  return {
      {.part = Part::attention_norm,
       .huggingface = "layers.{}.input_layernorm",
       .gguf = "blk.{}.attn_norm",
       .out = Dimension::model,
       .in = Dimension::none,
       .bias = layer_norm},
      {.part = Part::query,
       .huggingface = "layers.{}.self_attn.q_proj",
       .gguf = "blk.{}.attn_q",
       .out = Dimension::query,
       .in = Dimension::model,
       .bias = attention_bias},
      {.part = Part::key,
       .huggingface = "layers.{}.self_attn.k_proj",
       .gguf = "blk.{}.attn_k",
       .out = Dimension::kv,
       .in = Dimension::model,
       .bias = attention_bias,
       .in_layer = owns_cache},
      {.part = Part::value,
       .huggingface = "layers.{}.self_attn.v_proj",
       .gguf = "blk.{}.attn_v",
       .out = Dimension::kv,
       .in = Dimension::model,
       .bias = attention_bias,
       .in_layer = owns_cache},
      {.part = Part::attention_output,
       .huggingface = "layers.{}.self_attn.o_proj",
       .gguf = "blk.{}.attn_output",
       .out = Dimension::model,
       .in = Dimension::query,
       .bias = attention_output_bias},
  };
}

Rules llama_ffn_norm() {
  return {{.part = Part::ffn_norm,
           .huggingface = "layers.{}.post_attention_layernorm",
           .gguf = "blk.{}.ffn_norm",
           .out = Dimension::model,
           .in = Dimension::none,
           .bias = layer_norm}};
}

Rules llama_gated_ffn() {
  return {
      {.part = Part::gate,
       .huggingface = "layers.{}.mlp.gate_proj",
       .gguf = "blk.{}.ffn_gate",
       .out = Dimension::ff,
       .in = Dimension::model,
       .weight = gated,
       .bias = ffn_bias},
      {.part = Part::up,
       .huggingface = "layers.{}.mlp.up_proj",
       .gguf = "blk.{}.ffn_up",
       .out = Dimension::ff,
       .in = Dimension::model,
       .weight = gated,
       .bias = ffn_bias},
      // SparseLLM's relu-* and relu2-* claim to be Llama and have a gate but no up: an ungated FFN.
      {.part = Part::up,
       .huggingface = "layers.{}.mlp.gate_proj",
       .gguf = "",
       .out = Dimension::ff,
       .in = Dimension::model,
       .weight = ungated,
       .bias = ffn_bias},
      {.part = Part::down,
       .huggingface = "layers.{}.mlp.down_proj",
       .gguf = "blk.{}.ffn_down",
       .out = Dimension::model,
       .in = Dimension::ff,
       .bias = ffn_bias},
  };
}

Rules llama_ungated_ffn() {
  return {
      {.part = Part::up,
       .huggingface = "layers.{}.mlp.up_proj",
       .gguf = "blk.{}.ffn_up",
       .out = Dimension::ff,
       .in = Dimension::model,
       .bias = ffn_bias},
      {.part = Part::down,
       .huggingface = "layers.{}.mlp.down_proj",
       .gguf = "blk.{}.ffn_down",
       .out = Dimension::model,
       .in = Dimension::ff,
       .bias = ffn_bias},
  };
}

// GGUF's form of llama3 scaling: one divisor for each pair.
Rules rope_divisors() {
  return {{.part = Part::rope_divisors,
           .huggingface = "",
           .gguf = "rope_freqs",
           .out = Dimension::rope_pairs,
           .in = Dimension::none,
           .optional = true}};
}

Rules gemma2_norms() {
  return {
      {.part = Part::post_attention_norm,
       .huggingface = "layers.{}.post_attention_layernorm",
       .gguf = "blk.{}.post_attention_norm",
       .out = Dimension::model,
       .in = Dimension::none},
      {.part = Part::ffn_norm,
       .huggingface = "layers.{}.pre_feedforward_layernorm",
       .gguf = "blk.{}.ffn_norm",
       .out = Dimension::model,
       .in = Dimension::none},
      {.part = Part::post_ffn_norm,
       .huggingface = "layers.{}.post_feedforward_layernorm",
       .gguf = "blk.{}.post_ffw_norm",
       .out = Dimension::model,
       .in = Dimension::none},
  };
}

// Names as Gemma 2's; the FFN has a predictor in the gate's place, or, to compare with, Gemma 2's gate.
Rules spark_block() {
  Rules norms = gemma2_norms();
  norms[0].weight = norms[2].weight = norm_after;
  return norms + Rules{
                     {.part = Part::gate,
                      .huggingface = "layers.{}.mlp.predictor",
                      .gguf = "",
                      .out = Dimension::ff,
                      .in = Dimension::ffn_predictor,
                      .weight = predictor},
                     {.part = Part::gate,
                      .huggingface = "layers.{}.mlp.gate_proj",
                      .gguf = "",
                      .out = Dimension::ff,
                      .in = Dimension::model,
                      .weight = whole_gate},
                     {.part = Part::up,
                      .huggingface = "layers.{}.mlp.up_proj",
                      .gguf = "",
                      .out = Dimension::ff,
                      .in = Dimension::ffn_rest},
                     {.part = Part::down,
                      .huggingface = "layers.{}.mlp.down_proj",
                      .gguf = "",
                      .out = Dimension::model,
                      .in = Dimension::ff},
                 };
}

/// Gemma 3n's own: norms of heads, streams, LAuReL, and the embeddings of each layer.
Rules gemma3n_block() {
  return {
      {.part = Part::query_norm,
       .huggingface = "layers.{}.self_attn.q_norm",
       .gguf = "blk.{}.attn_q_norm",
       .out = Dimension::head,
       .in = Dimension::none},
      {.part = Part::key_norm,
       .huggingface = "layers.{}.self_attn.k_norm",
       .gguf = "blk.{}.attn_k_norm",
       .out = Dimension::head,
       .in = Dimension::none,
       .in_layer = owns_cache},
      {.part = Part::stream_in,
       .huggingface = "altup_projections.{}",
       .gguf = "altup_proj",
       .out = Dimension::model,
       .in = Dimension::model,
       .stacked = true,
       .times = Dimension::other_streams},
      {.part = Part::stream_out,
       .huggingface = "altup_unembed_projections.{}",
       .gguf = "altup_unembd_proj",
       .out = Dimension::model,
       .in = Dimension::model,
       .stacked = true,
       .times = Dimension::other_streams},
      {.part = Part::layer_embedding,
       .huggingface = "embed_tokens_per_layer",
       .gguf = "per_layer_token_embd",
       .out = Dimension::layer_vocab,
       .in = Dimension::layer_inputs},
      {.part = Part::layer_input_projection,
       .huggingface = "per_layer_model_projection",
       .gguf = "per_layer_model_proj",
       .out = Dimension::layer_inputs,
       .in = Dimension::model},
      {.part = Part::layer_input_norm,
       .huggingface = "per_layer_projection_norm",
       .gguf = "per_layer_proj_norm",
       .out = Dimension::layer_input,
       .in = Dimension::none},
      {.part = Part::router_norm,
       .huggingface = "layers.{}.altup.router_norm",
       .gguf = "blk.{}.altup_router_norm",
       .out = Dimension::model,
       .in = Dimension::none},
      {.part = Part::router,
       .huggingface = "layers.{}.altup.modality_router",
       .gguf = "blk.{}.altup_router",
       .out = Dimension::streams,
       .in = Dimension::model},
      {.part = Part::predict_coefs,
       .huggingface = "layers.{}.altup.prediction_coefs",
       .gguf = "blk.{}.altup_predict_coef",
       .out = Dimension::squared_streams,
       .in = Dimension::streams},
      {.part = Part::correct_coefs,
       .huggingface = "layers.{}.altup.correction_coefs",
       .gguf = "blk.{}.altup_correct_coef",
       .out = Dimension::streams,
       .in = Dimension::streams},
      {.part = Part::correct_scale,
       .huggingface = "layers.{}.altup.correct_output_scale",
       .gguf = "blk.{}.altup_correct_scale",
       .out = Dimension::model,
       .in = Dimension::none,
       .bare = true},
      {.part = Part::laurel_left,
       .huggingface = "layers.{}.laurel.linear_left",
       .gguf = "blk.{}.laurel_l",
       .out = Dimension::laurel,
       .in = Dimension::model},
      {.part = Part::laurel_right,
       .huggingface = "layers.{}.laurel.linear_right",
       .gguf = "blk.{}.laurel_r",
       .out = Dimension::model,
       .in = Dimension::laurel},
      {.part = Part::laurel_norm,
       .huggingface = "layers.{}.laurel.post_laurel_norm",
       .gguf = "blk.{}.laurel_post_norm",
       .out = Dimension::model,
       .in = Dimension::none},
      {.part = Part::input_gate,
       .huggingface = "layers.{}.per_layer_input_gate",
       .gguf = "blk.{}.inp_gate",
       .out = Dimension::layer_input,
       .in = Dimension::model},
      {.part = Part::input_projection,
       .huggingface = "layers.{}.per_layer_projection",
       .gguf = "blk.{}.proj",
       .out = Dimension::model,
       .in = Dimension::layer_input},
      {.part = Part::input_norm,
       .huggingface = "layers.{}.post_per_layer_input_norm",
       .gguf = "blk.{}.post_norm",
       .out = Dimension::model,
       .in = Dimension::none},
  };
}

Rules gpt2() {
  return {
      {.part = Part::token_embedding,
       .huggingface = "wte",
       .gguf = "token_embd",
       .out = Dimension::vocab,
       .in = Dimension::model},
      {.part = Part::position_embedding,
       .huggingface = "wpe",
       .gguf = "position_embd",
       .out = Dimension::positions,
       .in = Dimension::model},
      {.part = Part::final_norm,
       .huggingface = "ln_f",
       .gguf = "output_norm",
       .out = Dimension::model,
       .in = Dimension::none,
       .bias = layer_norm},
      {.part = Part::unembedding,
       .huggingface = "lm_head",
       .gguf = "output",
       .out = Dimension::vocab,
       .in = Dimension::model,
       .weight = untied,
       .rootless = true},
      {.part = Part::attention_norm,
       .huggingface = "h.{}.ln_1",
       .gguf = "blk.{}.attn_norm",
       .out = Dimension::model,
       .in = Dimension::none,
       .bias = layer_norm},
      {.part = Part::query_key_value,
       .huggingface = "h.{}.attn.c_attn",
       .gguf = "blk.{}.attn_qkv",
       .out = Dimension::query_key_value,
       .in = Dimension::model,
       .bias = attention_bias,
       .transposed = true},
      {.part = Part::attention_output,
       .huggingface = "h.{}.attn.c_proj",
       .gguf = "blk.{}.attn_output",
       .out = Dimension::model,
       .in = Dimension::query,
       .bias = attention_output_bias,
       .transposed = true},
      {.part = Part::ffn_norm,
       .huggingface = "h.{}.ln_2",
       .gguf = "blk.{}.ffn_norm",
       .out = Dimension::model,
       .in = Dimension::none,
       .bias = layer_norm},
      {.part = Part::up,
       .huggingface = "h.{}.mlp.c_fc",
       .gguf = "blk.{}.ffn_up",
       .out = Dimension::ff,
       .in = Dimension::model,
       .bias = ffn_bias,
       .transposed = true},
      {.part = Part::down,
       .huggingface = "h.{}.mlp.c_proj",
       .gguf = "blk.{}.ffn_down",
       .out = Dimension::model,
       .in = Dimension::ff,
       .bias = ffn_bias,
       .transposed = true},
  };
}

Rules opt() {
  return {
      {.part = Part::token_embedding,
       .huggingface = "embed_tokens",
       .gguf = "",
       .out = Dimension::vocab,
       .in = Dimension::embedding},
      {.part = Part::position_embedding,
       .huggingface = "embed_positions",
       .gguf = "",
       .out = Dimension::positions,
       .in = Dimension::model},
      {.part = Part::embedding_in,
       .huggingface = "project_in",
       .gguf = "",
       .out = Dimension::model,
       .in = Dimension::embedding,
       .weight = projected},
      {.part = Part::embedding_out,
       .huggingface = "project_out",
       .gguf = "",
       .out = Dimension::embedding,
       .in = Dimension::model,
       .weight = projected},
      {.part = Part::final_norm,
       .huggingface = "final_layer_norm",
       .gguf = "",
       .out = Dimension::model,
       .in = Dimension::none,
       .weight = final_affine,
       .bias = final_affine},
      {.part = Part::unembedding,
       .huggingface = "lm_head",
       .gguf = "",
       .out = Dimension::vocab,
       .in = Dimension::embedding,
       .weight = untied,
       .rootless = true},
      {.part = Part::attention_norm,
       .huggingface = "layers.{}.self_attn_layer_norm",
       .gguf = "",
       .out = Dimension::model,
       .in = Dimension::none,
       .weight = affine,
       .bias = layer_norm},
      {.part = Part::query,
       .huggingface = "layers.{}.self_attn.q_proj",
       .gguf = "",
       .out = Dimension::query,
       .in = Dimension::model,
       .bias = attention_bias},
      {.part = Part::key,
       .huggingface = "layers.{}.self_attn.k_proj",
       .gguf = "",
       .out = Dimension::kv,
       .in = Dimension::model,
       .bias = attention_bias},
      {.part = Part::value,
       .huggingface = "layers.{}.self_attn.v_proj",
       .gguf = "",
       .out = Dimension::kv,
       .in = Dimension::model,
       .bias = attention_bias},
      {.part = Part::attention_output,
       .huggingface = "layers.{}.self_attn.out_proj",
       .gguf = "",
       .out = Dimension::model,
       .in = Dimension::query,
       .bias = attention_output_bias},
      {.part = Part::ffn_norm,
       .huggingface = "layers.{}.final_layer_norm",
       .gguf = "",
       .out = Dimension::model,
       .in = Dimension::none,
       .weight = affine,
       .bias = layer_norm},
      {.part = Part::up,
       .huggingface = "layers.{}.fc1",
       .gguf = "",
       .out = Dimension::ff,
       .in = Dimension::model,
       .bias = ffn_bias},
      {.part = Part::down,
       .huggingface = "layers.{}.fc2",
       .gguf = "",
       .out = Dimension::model,
       .in = Dimension::ff,
       .bias = ffn_bias},
  };
}

std::vector<Architecture> make_table() {
  const std::vector<std::string_view> llama_prefixes{"model.", ""};
  const std::vector<std::string_view> llama_buffers{"rotary_emb.inv_freq"};
  const Rules llama = llama_ends() + llama_attention() + llama_ffn_norm();
  return {
      {"llama", "llama", llama_prefixes, llama + llama_gated_ffn() + rope_divisors(), llama_buffers},
      {"mistral", "", llama_prefixes, llama + llama_gated_ffn(), llama_buffers},
      {"arcee", "arcee", llama_prefixes, llama + llama_ungated_ffn() + rope_divisors(), llama_buffers},
      {"nemotron", "nemotron", llama_prefixes, llama + llama_ungated_ffn(), llama_buffers},
      {"gemma2", "gemma2", llama_prefixes, llama_ends() + llama_attention() + gemma2_norms() + llama_gated_ffn(),
       llama_buffers},
      {"gemma3n_text",
       "gemma3n",
       {"model.", "model.language_model.", "language_model.model.", ""},
       llama_ends() + llama_attention() + gemma2_norms() + llama_gated_ffn() + gemma3n_block(),
       llama_buffers,
       {"model.vision_tower.", "model.audio_tower.", "model.embed_vision.", "model.embed_audio.", "vision_tower.",
        "audio_tower.", "embed_vision.", "embed_audio."}},
      {"spark", "", llama_prefixes, llama_ends() + llama_attention() + spark_block(), {}},
      {"gpt2", "gpt2", {"transformer.", ""}, gpt2(), {"attn.bias", "attn.masked_bias"}},
      {"opt", "", {"model.decoder.", "decoder.", ""}, opt(), {}},
  };
}

const std::vector<Architecture>& table() {
  static const std::vector<Architecture> rows = make_table();
  return rows;
}

}  // namespace

std::int64_t size_of(Dimension axis, const ModelConfig& c) {
  switch (axis) {
    case Dimension::none:
      return 0;
    case Dimension::model:
      return c.d_model;
    case Dimension::ff:
      return c.d_ff;
    case Dimension::query:
      return c.query_width();
    case Dimension::kv:
      return c.kv_width();
    case Dimension::query_key_value:
      return std::int64_t{c.query_width()} + 2LL * c.kv_width();
    case Dimension::vocab:
      return c.vocab_size;
    case Dimension::embedding:
      return c.d_embedding;
    case Dimension::positions:
      return std::int64_t{c.context_length} + c.position_offset;
    case Dimension::rope_pairs:
      return (c.rope_dims + 1) / 2;
    case Dimension::ffn_predictor:
      return c.spark.ffn_predictor;
    case Dimension::ffn_rest:
      return c.d_model - c.spark.ffn_predictor;
    case Dimension::layers:
      return c.n_layers;
    case Dimension::head:
      return c.head_dim;
    case Dimension::streams:
      return c.altup.inputs;
    case Dimension::other_streams:
      return c.altup.inputs - 1;
    case Dimension::squared_streams:
      return std::int64_t{c.altup.inputs} * c.altup.inputs;
    case Dimension::laurel:
      return c.altup.laurel_rank;
    case Dimension::layer_input:
      return c.altup.layer_input;
    case Dimension::layer_inputs:
      return std::int64_t{c.altup.layer_input} * c.n_layers;
    case Dimension::layer_vocab:
      return c.altup.layer_vocab_size;
  }
  return 0;
}

std::span<const Architecture> architectures() {
  return table();
}

const Architecture& architecture_of(std::string_view model_type, const std::string& where) {
  for (const auto& architecture : table())
    if (architecture.model_type == model_type) return architecture;
  throw BadInput("{}: expected a model_type that is supported, found \"{}\"", where, model_type);
}

const Architecture* architecture_of_gguf(std::string_view name) {
  for (const auto& architecture : table())
    if (!architecture.gguf.empty() && architecture.gguf == name) return &architecture;
  return nullptr;
}

bool numbered(std::string_view pattern) {
  return pattern.find("{}") != std::string_view::npos;
}

std::vector<int> numbers_of(const TensorRule& rule, std::string_view pattern, const ModelConfig& config) {
  if (!numbered(pattern)) return {-1};
  std::vector<int> numbers(static_cast<std::size_t>(size_of(rule.times, config)));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

std::string_view pattern_of(const TensorRule& rule, bool gguf, bool packed) {
  return gguf || (packed && rule.huggingface.empty()) ? rule.gguf : rule.huggingface;
}

TensorNames names_of(const TensorRule& rule, bool gguf, std::string_view prefix, int number) {
  const bool gguf_name = gguf || rule.huggingface.empty();
  const std::string stem = expand(gguf_name ? rule.gguf : rule.huggingface,
                                  gguf_name || rule.rootless ? std::string_view{} : prefix, number);
  return {rule.bare && !gguf_name ? stem : stem + ".weight", stem + ".bias"};
}

std::string expand(std::string_view pattern, std::string_view prefix, int number) {
  std::string name(prefix);
  const auto hole = pattern.find("{}");
  if (hole == std::string_view::npos) return name.append(pattern);
  name.append(pattern.substr(0, hole)).append(std::to_string(number)).append(pattern.substr(hole + 2));
  return name;
}

}  // namespace torpor
