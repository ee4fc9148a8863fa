#include "engine/models/model_config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "core/base/error.h"

namespace torpor {
namespace {

struct NamedActivation {
  std::string_view name;
  Activation activation;
};

// Hugging Face's ACT2FN. gelu_new, gelu_fast, gelu_pytorch_tanh and gelu_python_tanh are one formula, written in four
// ways.
constexpr std::array kActivations{
    NamedActivation{"silu", Activation::silu},
    NamedActivation{"swish", Activation::silu},
    NamedActivation{"gelu", Activation::gelu},
    NamedActivation{"gelu_python", Activation::gelu},
    NamedActivation{"gelu_new", Activation::gelu_tanh},
    NamedActivation{"gelu_fast", Activation::gelu_tanh},
    NamedActivation{"gelu_accurate", Activation::gelu_tanh},
    NamedActivation{"gelu_pytorch_tanh", Activation::gelu_tanh},
    NamedActivation{"gelu_python_tanh", Activation::gelu_tanh},
    NamedActivation{"relu", Activation::relu},
    NamedActivation{"relu2", Activation::relu2},
};

}  // namespace

Activation parse_activation(std::string_view name, const std::string& where, std::string_view field) {
  for (const auto& known : kActivations)
    if (known.name == name) return known.activation;
  throw BadInput(
      "{}: expected \"{}\" to be one of silu, swish, gelu, gelu_new, gelu_pytorch_tanh, relu, relu2 (or fatrelu with "
      "hidden_act_param), found \"{}\". This activation is not supported",
      where, field, name);
}

bool has_exact_zeros(const ModelConfig& config, int layer) {
  return config.activation == Activation::relu || config.activation == Activation::relu2 ||
         config.activation_threshold > 0 || config.spark.ffn() || config.gate_sparsity_of(layer) > 0;
}

int cache_layer(const ModelConfig& config, int layer) {
  if (layer < config.cache_layers()) return layer;
  const auto local = [&](int l) { return config.windows[static_cast<std::size_t>(l)] > 0; };
  int owner = config.cache_layers() - 1;
  while (owner > 0 && local(owner) != local(layer)) --owner;
  return owner;
}

std::string describe(const ModelConfig& config) {
  return fmt::format("{}, {} layers, d_model {}, d_ff {}, {} heads ({} KV), vocab {}, {} {}", config.model_type,
                     config.n_layers, config.d_model, config.d_ff, config.n_heads, config.n_kv_heads, config.vocab_size,
                     config.activation_threshold > 0 ? "fatrelu" : name_of(config.activation),
                     config.gated ? "gated" : "ungated");
}

std::string canonical_text(const ModelConfig& c) {
  return fmt::format(
      "{} layers={} d_model={} d_ff={} heads={} kv={} head_dim={} vocab={} context={} act={} threshold={} gated={} "
      "bias={}{}{} norm={} eps={} offset={} affine={} after={} first={} final={} positions={} position_offset={} "
      "theta={} dims={} scaling={} factor={} low={} high={} original={} divisors={} interleaved={} embedding_scale={} "
      "tied={} d_embedding={} scale={} by_layer={} cap={} logit_cap={} windows={}{}{}",
      c.model_type, c.n_layers, c.d_model, c.d_ff, c.n_heads, c.n_kv_heads, c.head_dim, c.vocab_size, c.context_length,
      name_of(c.activation), c.activation_threshold, c.gated, c.ffn_bias, c.attention_bias, c.attention_output_bias,
      static_cast<int>(c.norm), c.norm_eps, c.norm_weight_offset, c.norm_affine, c.norm_after, c.norm_first,
      c.final_norm, static_cast<int>(c.positions), c.position_offset, c.rope_theta, c.rope_dims,
      static_cast<int>(c.rope_scaling), c.rope_factor, c.rope_low_freq_factor, c.rope_high_freq_factor,
      c.rope_original_context, c.rope_frequency_divisors, c.rope_interleaved, c.embedding_scale, c.tied_embeddings,
      c.d_embedding, c.attention_scale, c.attention_scale_by_layer, c.attention_soft_cap, c.logit_soft_cap, c.windows,
      c.spark == SparkConfig{} ? std::string()
                               : fmt::format(" spark={}/{} {}/{}", c.spark.ffn_predictor, c.spark.ffn_active,
                                             c.spark.attention_predictor, c.spark.attention_active),
      c.altup.any() ? fmt::format(" altup={}/{} {} laurel={} layer_input={} of {} gate_sparsity={} local_theta={} "
                                  "head_norms={} shared={}",
                                  c.altup.inputs, c.altup.active, c.altup.correct_scale, c.altup.laurel_rank,
                                  c.altup.layer_input, c.altup.layer_vocab_size, c.gate_sparsity, c.rope_local_theta,
                                  c.head_norms, c.shared_cache_layers)
                    : std::string());
}

namespace {

/// Gemma 3n's parts.
void check_altup(const ModelConfig& c, const std::string& where) {
  if (!(c.rope_local_theta >= 0) || !std::isfinite(c.rope_local_theta))
    throw BadInput("{}: expected a rope theta above 0 for layers with a window, found {}", where, c.rope_local_theta);
  if (!c.gate_sparsity.empty() && std::ssize(c.gate_sparsity) != c.n_layers)
    throw BadInput("{}: expected the sparsity of the gates of each of {} layers, found {}", where, c.n_layers,
                   c.gate_sparsity.size());
  for (const float sparsity : c.gate_sparsity)
    if (!(sparsity >= 0) || sparsity >= 1)
      throw BadInput("{}: expected a sparsity of the gates from 0 to below 1, found {}", where, sparsity);
  if (c.shared_cache_layers < 0 || c.shared_cache_layers >= c.n_layers)
    throw BadInput("{}: expected 0 to {} layers that share the keys and values of earlier ones, found {}", where,
                   c.n_layers - 1, c.shared_cache_layers);
  for (int layer = c.cache_layers(); layer < c.n_layers; ++layer)
    if ((c.windows[static_cast<std::size_t>(layer)] > 0) !=
        (c.windows[static_cast<std::size_t>(cache_layer(c, layer))] > 0))
      throw BadInput(
          "{}: expected a layer before the last {}, which share keys and values, that attends as layer {} does ({} a "
          "window), found none",
          where, c.shared_cache_layers, layer, c.windows[static_cast<std::size_t>(layer)] > 0 ? "with" : "without");
  const AltUpConfig& a = c.altup;
  if (!a.any()) return;
  if (a.inputs < 2 || a.inputs > kMaxStreams || a.active < 0 || a.active >= a.inputs)
    throw BadInput("{}: expected 2 to {} residual streams and one of them that is active, found {} and number {}",
                   where, kMaxStreams, a.inputs, a.active);
  const auto width = [&](int value, int max, const char* what) {
    if (value < 1 || value > max) throw BadInput("{}: expected {} from 1 to {}, found {}", where, what, max, value);
  };
  width(a.laurel_rank, 1 << 20, "a rank of LAuReL");
  width(a.layer_input, 1 << 20, "a width of the layers' own embeddings");
  width(a.layer_vocab_size, 1 << 26, "a number of tokens with embeddings for each layer");
}

}  // namespace

void check_config(const ModelConfig& c, const std::string& where) {
  const auto positive = [&](std::int64_t value, std::int64_t max, const char* what) {
    if (value < 1 || value > max) throw BadInput("{}: expected {} from 1 to {}, found {}", where, what, max, value);
  };
  // Bounds far beyond any real model, so that no product of two of them overflows.
  positive(c.n_layers, 1 << 14, "a number of layers");
  positive(c.d_model, 1 << 20, "a model width");
  positive(c.d_ff, 1 << 24, "a number of FFN neurons");
  positive(c.n_heads, 1 << 14, "a number of attention heads");
  positive(c.n_kv_heads, 1 << 14, "a number of key/value heads");
  positive(c.head_dim, 1 << 14, "a head width");
  positive(c.vocab_size, 1 << 26, "a vocabulary size");
  positive(c.context_length, 1 << 30, "a context length");
  positive(c.d_embedding, 1 << 20, "an embedding width");
  if (c.n_heads % c.n_kv_heads != 0)
    throw BadInput("{}: expected the {} attention heads to be a multiple of the key/value heads, found {}", where,
                   c.n_heads, c.n_kv_heads);
  if (!(c.norm_eps >= 0) || !(c.norm_eps < 1))
    throw BadInput("{}: expected a norm epsilon from 0 to 1, found {}", where, c.norm_eps);
  if (c.positions == Positions::rope) {
    const int rotated = (c.rope_dims + 1) / 2 * 2;
    if (c.rope_dims < 1 || rotated > c.head_dim)
      throw BadInput("{}: expected 1 to {} rotated values in a head of width {} (an even number), found {}", where,
                     c.head_dim, c.head_dim, c.rope_dims);
    if (!(c.rope_theta > 0)) throw BadInput("{}: expected rope_theta > 0, found {}", where, c.rope_theta);
    if (c.rope_scaling != RopeScaling::none && !(c.rope_factor > 0))
      throw BadInput("{}: expected a rope scaling factor > 0, found {}", where, c.rope_factor);
    if (c.rope_scaling == RopeScaling::llama3 &&
        (!(c.rope_low_freq_factor > 0) || !(c.rope_high_freq_factor > c.rope_low_freq_factor) ||
         c.rope_original_context < 1))
      throw BadInput(
          "{}: expected llama3 rope scaling with 0 < low_freq_factor < high_freq_factor and "
          "original_max_position_embeddings > 0, found {}, {}, {}",
          where, c.rope_low_freq_factor, c.rope_high_freq_factor, c.rope_original_context);
  }
  for (const float cap : {c.attention_soft_cap, c.logit_soft_cap})
    if (!(cap >= 0) || !std::isfinite(cap))
      throw BadInput("{}: expected a soft cap of logits of at least 0 (0: none), found {}", where, cap);
  for (const float scale : {c.attention_scale, c.embedding_scale})
    if (!std::isfinite(scale)) throw BadInput("{}: expected a finite scale, found {}", where, scale);
  const SparkConfig& s = c.spark;
  if (s.ffn() && (s.ffn_predictor < 0 || s.ffn_predictor >= c.d_model || s.ffn_active >= c.d_ff))
    throw BadInput(
        "{}: expected a Spark FFN with a predictor of 0 to {} values and fewer than {} active neurons, found {} and {}",
        where, c.d_model - 1, c.d_ff, s.ffn_predictor, s.ffn_active);
  if (s.attention() && (s.attention_predictor < 0 || s.attention_predictor >= c.head_dim ||
                        s.attention_predictor % 2 != 0 || c.head_dim % 2 != 0))
    throw BadInput("{}: expected Spark attention with an even predictor below the head's width of {} (even), found {}",
                   where, c.head_dim, s.attention_predictor);
  if (std::any_of(c.windows.begin(), c.windows.end(), [](int window) { return window < 0; }))
    throw BadInput("{}: expected a sliding window >= 0", where);
  check_altup(c, where);
}

}  // namespace torpor
