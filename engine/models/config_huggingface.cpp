#include "engine/models/config_huggingface.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "core/base/error.h"
#include "engine/models/config_dialects.h"
#include "engine/models/config_limits.h"

namespace torpor {
namespace {

const Dialect& dialect_of(const JsonReader& json) {
  const std::string type = json.string("model_type");
  for (const auto& dialect : kDialects)
    if (dialect.model_type == type) return dialect;
  throw BadInput(
      "{}: expected \"model_type\" to be one of llama, mistral, sparsellama, arcee, nemotron, gemma2, gemma3n, gpt2, "
      "opt, spark, found \"{}\". This architecture is not supported",
      json.where(), type);
}

int size_at(const JsonReader& json, std::string_view key, std::int64_t max = kMaxSize) {
  return static_cast<int>(json.integer(key, 1, max));
}

/// A flag whose other value the engine does not have.
void expect_flag(const JsonReader& json, std::string_view key, bool wanted, const char* meaning) {
  if (json.boolean_or(key, wanted) != wanted)
    throw BadInput("{}: expected \"{}\" to be {}, found {}: {} is not supported", json.where(), key, wanted, !wanted,
                   meaning);
}

void refuse_quantisation(const JsonReader& json) {
  for (const std::string_view key : {"quantization_config", "compression_config"})
    if (json.has(key)) {
      const Json& found = json.at(key);
      const bool named = found.is_object() && found.contains("quant_method") && found["quant_method"].is_string();
      throw BadInput(
          "{}: expected no \"{}\", found one{}: weights quantised this way are not supported. Use the original "
          "model, or a GGUF file",
          json.where(), key,
          named ? fmt::format(" (quant_method \"{}\")", found["quant_method"].get<std::string>()) : "");
    }
}

/// A setting that speaks of a norm and that no architecture here has: a model that normalises in another way.
void refuse_other_norms(const JsonReader& json) {
  constexpr std::array<std::string_view, 8> known = {"use_post_norms",
                                                     "rms_norm_eps",
                                                     "norm_eps",
                                                     "layer_norm_eps",
                                                     "layer_norm_epsilon",
                                                     "do_layer_norm_before",
                                                     "_remove_final_layer_norm",
                                                     "layer_norm_elementwise_affine"};
  for (const auto& [key, value] : json.json().items()) {
    if (key.find("norm") == std::string::npos || value.is_null() || value == false) continue;
    if (std::find(known.begin(), known.end(), key) == known.end())
      throw BadInput("{}: expected no \"{}\" in a {} model, found {}: another kind of norm is not supported",
                     json.where(), key, json.string("model_type"), value.dump());
  }
}

void read_activation(const JsonReader& json, const Dialect& dialect, const std::string& override_name,
                     ModelConfig& config) {
  std::string name = override_name;
  std::string_view field = "activation override";
  if (name.empty()) {
    field = dialect.activation;
    name = json.string_or(field, std::string(dialect.default_activation));
  }
  if (name == "fatrelu") {
    // ProSparse: x where x >= threshold, else 0.
    config.activation = Activation::relu;
    config.activation_threshold = static_cast<float>(json.number("hidden_act_param"));
    if (!(config.activation_threshold >= 0))
      throw BadInput("{}: expected \"hidden_act_param\" (the threshold of fatrelu) >= 0, found {}", json.where(),
                     config.activation_threshold);
    return;
  }
  config.activation = parse_activation(name, json.where(), field);
}

/// Where transformers 5 keeps RoPE ("rope_parameters") and where 4 did ("rope_theta", "rope_scaling").
void read_rope(const JsonReader& json, double partial_default, ModelConfig& config) {
  std::optional<JsonReader> nested;
  std::string field = "rope_parameters";
  if (json.has("rope_scaling")) field = "rope_scaling";
  if (json.has(field)) nested.emplace(json.object(field));

  const auto number = [&](std::string_view key, double fallback) {
    if (nested && nested->has(key)) return nested->number(key);
    return json.number_or(key, fallback);
  };
  config.rope_theta = static_cast<float>(number("rope_theta", 10000));
  const double partial = number("partial_rotary_factor", partial_default);
  if (!(partial > 0) || partial > 1)
    throw BadInput("{}: expected \"partial_rotary_factor\" above 0 and at most 1, found {}", json.where(), partial);
  if (partial_default == 1 && partial != 1)
    throw BadInput(
        "{}: expected no \"partial_rotary_factor\" in a {} model, found {}: versions of transformers "
        "disagree about its meaning there, so it is not supported",
        json.where(), config.model_type, partial);
  config.rope_dims = static_cast<int>(config.head_dim * partial);
  if (!nested) return;

  const std::string type =
      nested->has("rope_type") ? nested->string("rope_type") : nested->string_or("type", "default");
  if (type == "default") return;
  if (type == "linear") {
    config.rope_scaling = RopeScaling::linear;
    config.rope_factor = static_cast<float>(nested->number("factor"));
  } else if (type == "llama3") {
    config.rope_scaling = RopeScaling::llama3;
    config.rope_factor = static_cast<float>(nested->number("factor"));
    config.rope_low_freq_factor = static_cast<float>(nested->number("low_freq_factor"));
    config.rope_high_freq_factor = static_cast<float>(nested->number("high_freq_factor"));
    config.rope_original_context =
        static_cast<int>(nested->integer_or("original_max_position_embeddings", config.context_length, 1, kMaxSize));
  } else {
    throw BadInput(
        "{}: expected \"rope_type\" to be default, linear or llama3, found \"{}\". This scaling is not "
        "supported",
        nested->where(), type);
  }
}

void add_stop_id(std::int64_t id, ModelConfig& config) {
  if (std::find(config.stop_ids.begin(), config.stop_ids.end(), id) == config.stop_ids.end())
    config.stop_ids.push_back(id);
}

void read_stop_ids(const JsonReader& json, ModelConfig& config) {
  constexpr std::int64_t kMaxId = INT32_MAX;
  if (json.has("bos_token_id") && config.bos < 0) config.bos = json.integer("bos_token_id", -1, kMaxId);
  if (!json.has("eos_token_id")) return;
  const Json& eos = json.at("eos_token_id");
  if (eos.is_array()) {
    for (const auto& id : eos) {
      if (!id.is_number_integer() || id.get<std::int64_t>() < 0 || id.get<std::int64_t>() > kMaxId)
        throw BadInput("{}: expected token ids at \"eos_token_id\", found {}", json.where(), id.dump());
      if (config.eos < 0) config.eos = id.get<std::int64_t>();
      add_stop_id(id.get<std::int64_t>(), config);
    }
  } else if (const auto id = json.integer("eos_token_id", -1, kMaxId); id >= 0) {
    if (config.eos < 0) config.eos = id;
    add_stop_id(id, config);
  }
}

/// A number, null (none) or absent (transformers' default).
float cap_at(const JsonReader& json, std::string_view key, double fallback) {
  if (json.json().contains(key) && !json.has(key)) return 0;
  const double cap = json.number_or(key, fallback);
  if (!(cap > 0)) throw BadInput("{}: expected \"{}\" > 0 or null, found {}", json.where(), key, cap);
  return static_cast<float>(cap);
}

int window_at(const JsonReader& json, int fallback) {
  if (json.json().contains("sliding_window") && !json.has("sliding_window")) return 0;
  return static_cast<int>(json.integer_or("sliding_window", fallback, 1, kMaxSize));
}

/// Which layers have a window: "layer_types", or, where that is absent, the rule that transformers has.
template <class Rule>
void read_layer_types(const JsonReader& json, int window, const Rule& has_window, ModelConfig& config) {
  config.windows.assign(static_cast<std::size_t>(config.n_layers), 0);
  if (!json.has("layer_types")) {
    for (int layer = 0; layer < config.n_layers; ++layer)
      if (has_window(layer)) config.windows[static_cast<std::size_t>(layer)] = window;
    return;
  }
  const Json& types = json.at("layer_types");
  if (!types.is_array() || types.size() != config.windows.size())
    throw BadInput("{}: expected {} layer types at \"layer_types\", found {}", json.where(), config.n_layers,
                   types.is_array() ? fmt::format("{}", types.size()) : types.type_name());
  for (std::size_t i = 0; i < types.size(); ++i) {
    if (types[i] == "sliding_attention") {
      config.windows[i] = window;
    } else if (types[i] != "full_attention") {
      throw BadInput("{}: expected sliding_attention or full_attention at \"layer_types\"[{}], found {}", json.where(),
                     i, types[i].dump());
    }
  }
}

void read_gemma2(const JsonReader& json, ModelConfig& config) {
  config.norm_after = true;
  config.attention_soft_cap = cap_at(json, "attn_logit_softcapping", 50);
  config.logit_soft_cap = cap_at(json, "final_logit_softcapping", 30);
  const double scalar = json.number_or("query_pre_attn_scalar", 256);
  if (!(scalar > 0)) throw BadInput("{}: expected \"query_pre_attn_scalar\" > 0, found {}", json.where(), scalar);
  config.attention_scale = static_cast<float>(1 / std::sqrt(scalar));
  config.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(config.d_model)));
  expect_flag(json, "use_bidirectional_attention", false, "attention that looks ahead");

  // Unless said, every other layer has a window, the first one included.
  read_layer_types(
      json, window_at(json, 4096), [](int layer) { return layer % 2 == 0; }, config);
}

/// A setting that is a list with a number for each layer, or one number for all. read: the number, or none where the
/// JSON is not of that kind.
template <class Number, class Read>
std::vector<Number> numbers_by_layer(const JsonReader& json, std::string_view key, int layers, const char* kind,
                                     const Read& read) {
  const Json& found = json.at(key);
  std::vector<Number> numbers;
  const Json list = found.is_array() ? found : Json(std::vector<Json>(static_cast<std::size_t>(layers), found));
  if (std::ssize(list) != layers)
    throw BadInput("{}: expected {} for each of {} layers at \"{}\", found {}", json.where(), kind, layers, key,
                   list.size());
  for (const Json& each : list) {
    const std::optional<Number> number = read(each);
    if (!number) throw BadInput("{}: expected {} at \"{}\", found {}", json.where(), kind, key, each.dump());
    numbers.push_back(*number);
  }
  return numbers;
}

/// Gemma 3n's feed-forward width: an own one for each layer in files cut out of a larger model.
int read_width_by_layer(const JsonReader& json, std::string_view key, int layers) {
  const auto widths = numbers_by_layer<int>(json, key, layers, "a width", [](const Json& each) -> std::optional<int> {
    if (!each.is_number_integer() || each.get<std::int64_t>() < 1 || each.get<std::int64_t>() > kMaxSize) return {};
    return each.get<int>();
  });
  if (std::adjacent_find(widths.begin(), widths.end(), std::not_equal_to<>()) != widths.end())
    throw BadInput(
        "{}: expected the same width for every layer at \"{}\", found from {} to {}. Models whose layers differ in "
        "width (MatFormer slices) are not supported",
        json.where(), key, *std::min_element(widths.begin(), widths.end()),
        *std::max_element(widths.begin(), widths.end()));
  return widths.front();
}

/// Gemma 3n's two rotations: of layers with a window and of the others.
void read_gemma3n_rope(const JsonReader& json, ModelConfig& config) {
  config.rope_dims = config.head_dim;
  config.rope_theta = static_cast<float>(json.number_or("rope_theta", 1e6));
  config.rope_local_theta = static_cast<float>(json.number_or("rope_local_base_freq", 1e4));
  const auto only_default = [&](const JsonReader& rope) {
    const std::string type = rope.has("rope_type") ? rope.string("rope_type") : rope.string_or("type", "default");
    if (type != "default")
      throw BadInput(
          "{}: expected \"rope_type\" to be default in a gemma3n model, found \"{}\": this scaling is not "
          "supported there",
          rope.where(), type);
  };
  if (json.has("rope_scaling")) only_default(json.object("rope_scaling"));
  if (!json.has("rope_parameters")) return;
  const JsonReader both = json.object("rope_parameters");
  const auto read = [&](std::string_view kind, float& theta) {
    if (!both.has(kind)) return;
    const JsonReader rope = both.object(kind);
    only_default(rope);
    theta = static_cast<float>(rope.number_or("rope_theta", theta));
  };
  read("full_attention", config.rope_theta);
  read("sliding_attention", config.rope_local_theta);
}

void read_gemma3n(const JsonReader& json, ModelConfig& config) {
  read_gemma3n_rope(json, config);
  config.norm_after = true;
  config.head_norms = true;
  config.attention_scale = 1;
  config.logit_soft_cap = cap_at(json, "final_logit_softcapping", 30);
  config.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(config.d_model)));
  expect_flag(json, "attention_bias", false, "a bias of the projections");
  expect_flag(json, "use_bidirectional_attention", false, "attention that looks ahead");
  read_layer_types(
      json, window_at(json, 512), [](int layer) { return (layer + 1) % 5 != 0; }, config);
  config.shared_cache_layers = static_cast<int>(json.integer_or("num_kv_shared_layers", 15, 0, kMaxLayers));

  if (json.has("activation_sparsity_pattern")) {
    config.gate_sparsity =
        numbers_by_layer<float>(json, "activation_sparsity_pattern", config.n_layers, "a sparsity from 0 to below 1",
                                [](const Json& each) -> std::optional<float> {
                                  if (!each.is_number() || !(each.get<double>() >= 0) || !(each.get<double>() < 1))
                                    return {};
                                  return each.get<float>();
                                });
  } else {
    config.gate_sparsity.assign(static_cast<std::size_t>(config.n_layers), 0);
    if (config.n_layers > 10) std::fill_n(config.gate_sparsity.begin(), 10, 0.95F);
  }

  AltUpConfig& altup = config.altup;
  altup.inputs = static_cast<int>(json.integer_or("altup_num_inputs", 4, 2, kMaxStreams));
  altup.active = static_cast<int>(json.integer_or("altup_active_idx", 0, 0, altup.inputs - 1));
  altup.correct_scale = json.boolean_or("altup_correct_scale", true);
  altup.laurel_rank = static_cast<int>(json.integer_or("laurel_rank", 64, 1, kMaxWidth));
  altup.layer_input = static_cast<int>(json.integer_or("hidden_size_per_layer_input", 256, 1, kMaxWidth));
  altup.layer_embedding_scale = std::sqrt(static_cast<float>(altup.layer_input));
  altup.layer_vocab_size = static_cast<int>(json.integer_or("vocab_size_per_layer_input", 262144, 1, kMaxSize));
}

/// Gemma 2 without soft caps, its norms after a sub-layer optional, and the two sparse parts, each where its keys are.
void read_spark(const JsonReader& json, ModelConfig& config) {
  config.norm_after = json.boolean_or("use_post_norms", true);
  config.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(config.d_model)));
  const auto part = [&](std::string_view active, std::string_view predictor, int& k, int& r) {
    if (json.has(active)) k = size_at(json, active);
    if (!json.has(predictor)) return;
    if (k == 0) throw BadInput("{}: expected \"{}\" beside \"{}\", found none", json.where(), active, predictor);
    r = size_at(json, predictor);
  };
  SparkConfig& spark = config.spark;
  part("ffn_active_neurons", "ffn_predictor_size", spark.ffn_active, spark.ffn_predictor);
  part("attention_active_keys", "attention_predictor_size", spark.attention_active, spark.attention_predictor);
  if (json.has("sliding_window")) config.windows.assign(static_cast<std::size_t>(config.n_layers), window_at(json, 0));
  if (config.attention_bias || config.ffn_bias)
    throw BadInput("{}: expected no biases in a spark model, found some", json.where());
}

void read_gpt2(const JsonReader& json, ModelConfig& config) {
  config.attention_bias = config.attention_output_bias = config.ffn_bias = true;
  config.attention_scale_by_layer = json.boolean_or("scale_attn_by_inverse_layer_idx", false);
  if (!json.boolean_or("scale_attn_weights", true)) config.attention_scale = 1;
  expect_flag(json, "add_cross_attention", false, "cross-attention");
}

void read_opt(const JsonReader& json, ModelConfig& config) {
  const bool bias = json.boolean_or("enable_bias", true);
  config.attention_bias = config.attention_output_bias = config.ffn_bias = bias;
  config.position_offset = 2;
  config.norm_first = json.boolean_or("do_layer_norm_before", true);
  config.norm_affine = json.boolean_or("layer_norm_elementwise_affine", true);
  config.final_norm = config.norm_first && !json.boolean_or("_remove_final_layer_norm", false);
  config.d_embedding = static_cast<int>(json.integer_or("word_embed_proj_dim", config.d_model, 1, kMaxSize));
}

void read_llama_family(const JsonReader& json, ModelConfig& config) {
  if (config.model_type == "gemma3n_text") return read_gemma3n(json, config);
  read_rope(json, config.model_type == "nemotron" ? 0.5 : 1, config);
  if (config.model_type != "mistral") {
    config.attention_bias = config.attention_output_bias = json.boolean_or("attention_bias", false);
    if (config.model_type != "gemma2") config.ffn_bias = json.boolean_or("mlp_bias", false);
  }
  if (config.model_type == "mistral") {
    config.windows.assign(static_cast<std::size_t>(config.n_layers), window_at(json, 4096));
    if (json.has("layer_types"))
      throw BadInput("{}: expected no \"layer_types\" in a mistral model: alternating attention is not supported there",
                     json.where());
  }
}

}  // namespace

ModelConfig read_huggingface_config(const Json& root, const std::string& where,
                                    const std::string& activation_override) {
  if (const JsonReader whole(root, where); whole.string("model_type") == "gemma3n") {
    // The language model of one that also sees and hears; what the whole says of its ends counts too.
    const JsonReader text = whole.object("text_config");
    ModelConfig config = read_huggingface_config(text.json(), text.where(), activation_override);
    if (config.model_type != "gemma3n_text")
      throw BadInput("{}: expected a \"model_type\" of gemma3n_text, found {}", text.where(), config.model_type);
    refuse_quantisation(whole);
    read_stop_ids(whole, config);
    return config;
  }
  const JsonReader json(root, where);
  const Dialect& dialect = dialect_of(json);
  refuse_quantisation(json);
  refuse_other_norms(json);

  ModelConfig config;
  config.model_type = std::string(dialect.model_type);
  if (config.model_type == "sparsellama") config.model_type = "llama";
  config.n_layers = size_at(json, dialect.layers, kMaxLayers);
  config.d_model = size_at(json, dialect.d_model, kMaxWidth);
  config.n_heads = size_at(json, dialect.heads, kMaxHeads);
  config.vocab_size = size_at(json, "vocab_size");
  config.context_length = size_at(json, dialect.context);
  config.d_embedding = config.d_model;
  if (config.model_type == "gpt2")
    config.d_ff = static_cast<int>(json.integer_or(dialect.d_ff, 4LL * config.d_model, 1, kMaxSize));
  else if (config.model_type == "gemma3n_text")
    config.d_ff = read_width_by_layer(json, dialect.d_ff, config.n_layers);
  else
    config.d_ff = size_at(json, dialect.d_ff);
  config.n_kv_heads = config.n_heads;
  if (!dialect.kv_heads.empty()) {
    if (!root.contains(dialect.kv_heads) && dialect.default_kv_heads > 0) config.n_kv_heads = dialect.default_kv_heads;
    config.n_kv_heads = static_cast<int>(json.integer_or(dialect.kv_heads, config.n_kv_heads, 1, kMaxHeads));
  }
  const bool own_head_dim = dialect.positions == Positions::rope && json.has("head_dim");
  if (own_head_dim) {
    config.head_dim = size_at(json, "head_dim", kMaxHeads);
  } else if (dialect.default_head_dim > 0) {
    config.head_dim = dialect.default_head_dim;
  } else {
    if (config.d_model % config.n_heads != 0)
      throw BadInput("{}: expected \"{}\" to be a multiple of \"{}\" ({}), found {}", where, dialect.d_model,
                     dialect.heads, config.n_heads, config.d_model);
    config.head_dim = config.d_model / config.n_heads;
  }
  config.gated = dialect.gated;
  config.norm = dialect.norm;
  config.norm_weight_offset = dialect.norm_weight_offset;
  config.norm_eps =
      static_cast<float>(dialect.eps.empty() ? dialect.default_eps : json.number_or(dialect.eps, dialect.default_eps));
  config.positions = dialect.positions;
  config.tied_embeddings = json.boolean_or("tie_word_embeddings", dialect.tied_by_default);
  config.attention_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(config.head_dim)));
  config.windows.assign(static_cast<std::size_t>(config.n_layers), 0);
  read_activation(json, dialect, activation_override, config);
  if (dialect.positions == Positions::rope) read_llama_family(json, config);
  if (config.model_type == "gemma2") read_gemma2(json, config);
  if (config.model_type == "spark") read_spark(json, config);
  if (config.model_type == "gpt2") read_gpt2(json, config);
  if (config.model_type == "opt") read_opt(json, config);
  read_stop_ids(json, config);
  check_config(config, where);
  return config;
}

void add_generation_config(const Json& root, const std::string& where, ModelConfig& config) {
  read_stop_ids(JsonReader(root, where), config);
}

}  // namespace torpor
