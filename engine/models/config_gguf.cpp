#include "engine/models/config_gguf.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/base/error.h"
#include "engine/models/architecture.h"
#include "engine/models/config_limits.h"

namespace torpor {
namespace {

/// Keys below "<architecture>.".
class Keys {
 public:
  Keys(const GgufFile& file, std::string_view architecture) : file_(file), prefix_(std::string(architecture) + '.') {}

  std::string full(std::string_view key) const { return prefix_ + std::string(key); }
  bool has(std::string_view key) const { return file_.has(full(key)); }
  double number(std::string_view key, double fallback) const { return file_.number_or(full(key), fallback); }
  std::string string(std::string_view key, const std::string& fallback) const {
    return file_.string_or(full(key), fallback);
  }

  int size(std::string_view key, std::int64_t max) const { return static_cast<int>(file_.integer(full(key), 1, max)); }
  int size_or(std::string_view key, std::int64_t fallback, std::int64_t max) const {
    return static_cast<int>(file_.integer_or(full(key), fallback, 1, max));
  }

  /// One number, or an array of one number a layer, all of them equal.
  int uniform_size(std::string_view key, std::int64_t fallback, std::int64_t max) const {
    const GgufValue* value = file_.find(full(key));
    if (value == nullptr && fallback > 0) return static_cast<int>(fallback);
    if (value == nullptr || value->type != GgufType::array) return size(key, max);
    const auto each = file_.integers(full(key));
    if (each.empty() || each.front() < 1 || each.front() > max)
      throw BadInput("{}: expected numbers from 1 to {} at \"{}\", found {}", file_.where(), max, full(key),
                     each.empty() ? std::string("none") : std::to_string(each.front()));
    if (std::any_of(each.begin(), each.end(), [&](std::int64_t one) { return one != each.front(); }))
      throw BadInput(
          "{}: expected the same number for every layer at \"{}\", found different ones. Such models are not "
          "supported",
          file_.where(), full(key));
    return static_cast<int>(each.front());
  }

 private:
  const GgufFile& file_;
  std::string prefix_;
};

/// Settings that change the result and that none of the supported architectures has.
void refuse_unknown_settings(const GgufFile& file, const Keys& keys) {
  if (file.integer_or("split.count", 1, 0, 65535) > 1)
    throw BadInput(
        "{}: expected a whole model, found one part of a split one. Merge the parts with llama-gguf-split --merge",
        file.where());
  for (const std::string_view key : {"expert_count", "attention.max_alibi_bias", "attention.clamp_kqv"})
    if (keys.number(key, 0) != 0)
      throw BadInput("{}: expected no \"{}\", found {}: this kind of model is not supported", file.where(),
                     keys.full(key), keys.number(key, 0));
  for (const std::string_view key : {"logit_scale", "residual_scale", "embedding_scale", "rope.scaling.attn_factor"})
    if (keys.number(key, 1) != 1)
      throw BadInput("{}: expected no \"{}\", found {}: this kind of model is not supported", file.where(),
                     keys.full(key), keys.number(key, 1));
}

void read_rope(const GgufFile& file, const Keys& keys, ModelConfig& config) {
  config.positions = Positions::rope;
  config.rope_theta = static_cast<float>(keys.number("rope.freq_base", 10000));
  config.rope_dims = keys.size_or("rope.dimension_count", config.head_dim, kMaxHeads);
  const std::string type = keys.string("rope.scaling.type", keys.has("rope.scale_linear") ? "linear" : "none");
  const double factor = keys.number("rope.scaling.factor", keys.number("rope.scale_linear", 1));
  if (type == "linear") {
    config.rope_scaling = RopeScaling::linear;
    config.rope_factor = static_cast<float>(factor);
  } else if (type != "none") {
    throw BadInput("{}: expected \"{}\" to be none or linear, found \"{}\". This scaling is not supported",
                   file.where(), keys.full("rope.scaling.type"), type);
  }
}

void read_gemma2(const Keys& keys, ModelConfig& config) {
  config.norm_after = true;
  config.activation = Activation::gelu_tanh;
  config.gated = true;
  config.attention_soft_cap = static_cast<float>(keys.number("attn_logit_softcapping", 50));
  config.logit_soft_cap = static_cast<float>(keys.number("final_logit_softcapping", 30));
  config.embedding_scale = std::sqrt(static_cast<float>(config.d_model));
  // query_pre_attn_scalar is not in the file: llama.cpp knows the 27B model by its 46 layers.
  const int scalar = config.n_layers == 46 ? config.d_model / config.n_heads : config.head_dim;
  config.attention_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(scalar)));
  const int window = keys.size_or("attention.sliding_window", 4096, kMaxSize);
  for (std::size_t i = 0; i < config.windows.size(); i += 2) config.windows[i] = window;
}

/// Gemma 3n. Of its settings llama.cpp's converter writes these, and of the gates' sparsity the standard deviations
/// above the mean that its share lies at.
void read_gemma3n(const GgufFile& file, const Keys& keys, ModelConfig& config) {
  config.norm_after = true;
  config.head_norms = true;
  config.activation = Activation::gelu_tanh;
  config.gated = true;
  config.attention_scale = 1;
  config.logit_soft_cap = static_cast<float>(keys.number("final_logit_softcapping", 30));
  config.embedding_scale = std::sqrt(static_cast<float>(config.d_model));
  config.rope_local_theta = static_cast<float>(keys.number("rope.freq_base_swa", 10000));
  config.shared_cache_layers = static_cast<int>(file.integer(keys.full("attention.shared_kv_layers"), 0, kMaxLayers));
  const auto by_layer = [&](const char* key, std::size_t found) {
    if (std::ssize(config.windows) != static_cast<std::ptrdiff_t>(found))
      throw BadInput("{}: expected a value for each of {} layers at \"{}\", found {}", file.where(), config.n_layers,
                     keys.full(key), found);
  };
  const int window = keys.size("attention.sliding_window", kMaxSize);
  const auto local = file.booleans(keys.full("attention.sliding_window_pattern"));
  by_layer("attention.sliding_window_pattern", local.size());
  for (std::size_t l = 0; l < local.size(); ++l) config.windows[l] = local[l] ? window : 0;
  const auto deviations = file.numbers(keys.full("activation_sparsity_scale"));
  by_layer("activation_sparsity_scale", deviations.size());
  for (const float deviation : deviations) {
    if (std::isnan(deviation) || deviation > 8)
      throw BadInput("{}: expected deviations up to 8, or -inf, at \"{}\", found {}", file.where(),
                     keys.full("activation_sparsity_scale"), deviation);
    // 0.95, which the file has as 1.6448535, comes back as 0.95 and not as a neighbour.
    const double share = std::erfc(static_cast<double>(-deviation) / std::numbers::sqrt2) / 2;
    config.gate_sparsity.push_back(static_cast<float>(std::round(share * 1e6) / 1e6));
  }
  AltUpConfig& altup = config.altup;
  altup.inputs = keys.size("altup.num_inputs", kMaxStreams);
  altup.active = static_cast<int>(file.integer(keys.full("altup.active_idx"), 0, kMaxStreams));
  altup.layer_input = keys.size("embedding_length_per_layer_input", kMaxWidth);
  altup.layer_embedding_scale = std::sqrt(static_cast<float>(altup.layer_input));
  const auto rows_of = [&](const char* name) {
    const TensorView* const tensor = file.tensors().find(name);
    if (tensor == nullptr || tensor->shape.empty())
      throw BadInput("{}: expected a tensor \"{}\" (Gemma 3n), found none", file.where(), name);
    return static_cast<int>(std::min(tensor->shape.front(), kMaxSize));
  };
  altup.layer_vocab_size = rows_of("per_layer_token_embd.weight");
  altup.laurel_rank = rows_of("blk.0.laurel_l.weight");
}

void read_stop_ids(const GgufFile& file, ModelConfig& config) {
  const auto id = [&](const char* key) { return file.integer_or(key, -1, -1, INT64_C(0xFFFFFFFF)); };
  config.bos = id("tokenizer.ggml.bos_token_id");
  config.eos = id("tokenizer.ggml.eos_token_id");
  for (const auto stop : {config.eos, id("tokenizer.ggml.eot_token_id"), id("tokenizer.ggml.eom_token_id")})
    if (stop >= 0 && std::find(config.stop_ids.begin(), config.stop_ids.end(), stop) == config.stop_ids.end())
      config.stop_ids.push_back(stop);
}

void override_activation(const std::string& name, const std::string& where, ModelConfig& config) {
  if (!name.empty()) config.activation = parse_activation(name, where, "activation override");
}

}  // namespace

ModelConfig read_gguf_config(const GgufFile& file, const std::string& activation_override) {
  const std::string_view name = file.string("general.architecture");
  const Architecture* architecture = architecture_of_gguf(name);
  if (architecture == nullptr)
    throw BadInput(
        "{}: expected \"general.architecture\" to be one of llama, arcee, nemotron, gemma2, gemma3n, gpt2, found "
        "\"{}\". "
        "This architecture is not supported",
        file.where(), name);
  const Keys keys(file, name);
  const auto& tensors = file.tensors();
  if (tensors.tensors().empty())
    throw BadInput("{}: expected tensors, found none: this file holds only a vocabulary", file.where());
  refuse_unknown_settings(file, keys);

  ModelConfig config;
  config.model_type = std::string(architecture->model_type);
  config.n_layers = keys.size("block_count", kMaxLayers);
  config.d_model = keys.size("embedding_length", kMaxWidth);
  config.d_ff = keys.uniform_size("feed_forward_length", 0, kMaxSize);
  config.n_heads = keys.uniform_size("attention.head_count", 0, kMaxHeads);
  config.n_kv_heads = keys.uniform_size("attention.head_count_kv", config.n_heads, kMaxHeads);
  config.context_length = keys.size("context_length", kMaxSize);
  config.d_embedding = config.d_model;
  config.head_dim = keys.size_or("attention.key_length", std::max(1, config.d_model / config.n_heads), kMaxHeads);
  if (const int value = keys.size_or("attention.value_length", config.head_dim, kMaxHeads); value != config.head_dim)
    throw BadInput("{}: expected keys and values of one width, found {} and {}: this kind of model is not supported",
                   file.where(), config.head_dim, value);
  const TensorView* embedding = tensors.find("token_embd.weight");
  config.vocab_size = keys.size_or(
      "vocab_size", embedding != nullptr && !embedding->shape.empty() ? embedding->shape.front() : 1, kMaxSize);
  config.attention_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(config.head_dim)));
  config.windows.assign(static_cast<std::size_t>(config.n_layers), 0);

  config.tied_embeddings = tensors.find("output.weight") == nullptr;
  config.attention_bias =
      tensors.find("blk.0.attn_q.bias") != nullptr || tensors.find("blk.0.attn_qkv.bias") != nullptr;
  config.attention_output_bias = tensors.find("blk.0.attn_output.bias") != nullptr;
  config.ffn_bias = tensors.find("blk.0.ffn_up.bias") != nullptr;

  const bool layer_norm = config.model_type == "nemotron" || config.model_type == "gpt2";
  config.norm = layer_norm ? Norm::layer : Norm::rms;
  const auto eps = keys.full(layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon");
  config.norm_eps = static_cast<float>(file.number(eps));

  config.gated = false;
  if (config.model_type == "gpt2") {
    config.positions = Positions::learned;
    config.activation = Activation::gelu_tanh;
  } else {
    read_rope(file, keys, config);
    config.activation = Activation::relu2;  // arcee, nemotron
  }
  if (config.model_type == "llama") {
    config.gated = true;
    config.activation = Activation::silu;
    std::fill(config.windows.begin(), config.windows.end(),
              keys.has("attention.sliding_window") ? keys.size("attention.sliding_window", kMaxSize) : 0);
  }
  config.rope_interleaved = config.model_type == "llama" || config.model_type == "arcee";
  if (config.model_type == "gemma2") read_gemma2(keys, config);
  if (config.model_type == "gemma3n_text") read_gemma3n(file, keys, config);
  read_stop_ids(file, config);
  override_activation(activation_override, file.where(), config);
  check_config(config, file.where());
  return config;
}

ModelConfig read_llama2c_config(const Llama2cHeader& header, const std::string& where,
                                const std::string& activation_override) {
  ModelConfig config;
  config.model_type = "llama";
  config.n_layers = header.n_layers;
  config.d_model = config.d_embedding = header.dim;
  config.d_ff = header.hidden_dim;
  config.n_heads = header.n_heads;
  config.n_kv_heads = header.n_kv_heads;
  config.head_dim = config.rope_dims = header.head_dim();
  config.vocab_size = header.vocab_size;
  config.context_length = header.seq_len;
  config.norm_eps = 1e-5F;
  config.rope_interleaved = true;
  config.tied_embeddings = header.tied;
  config.attention_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(config.head_dim)));
  config.bos = 1;
  config.eos = 2;
  config.stop_ids = {1, 2};  // run.c ends a text at BOS; EOS is the tokenizer's
  check_config(config, where);
  config.windows.assign(static_cast<std::size_t>(config.n_layers), 0);
  override_activation(activation_override, where, config);
  return config;
}

}  // namespace torpor
