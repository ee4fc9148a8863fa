#include "lab/train/presets.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"

namespace torpor::lab {
namespace {

struct Size {
  const char* name;
  int d_model, layers, heads, kv_heads, head_dim, ungated_d_ff, context, batch;
  double learning_rate;
};

constexpr Size kSizes[] = {
    {"5m", 256, 6, 4, 2, 64, 1152, 512, 8, 2e-3},
    {"1m", 128, 4, 4, 4, 32, 576, 256, 16, 3e-3},
    {"tiny", 32, 2, 2, 1, 16, 144, 64, 8, 3e-3},
};

ModelConfig base(const Size& size) {
  ModelConfig c;
  c.n_layers = size.layers;
  c.d_model = c.d_embedding = size.d_model;
  c.n_heads = size.heads;
  c.n_kv_heads = size.kv_heads;
  c.head_dim = c.rope_dims = size.head_dim;
  c.vocab_size = 256;
  c.context_length = size.context;
  c.attention_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(size.head_dim)));
  c.windows.assign(static_cast<std::size_t>(size.layers), 0);
  c.tied_embeddings = true;
  return c;
}

ModelConfig llama(const Size& size, Activation activation, bool gated) {
  ModelConfig c = base(size);
  c.model_type = gated ? "llama" : "arcee";
  c.activation = activation;
  c.gated = gated;
  c.d_ff = gated ? size.ungated_d_ff * 2 / 3 : size.ungated_d_ff;
  return c;
}

/// Gemma 2's block: norms after as well, weights of norms around 0, scaled embeddings.
ModelConfig gemma(const Size& size, const char* model_type, int d_ff) {
  ModelConfig c = base(size);
  c.model_type = model_type;
  c.activation = Activation::gelu_tanh;
  c.d_ff = d_ff;
  c.norm_weight_offset = 1;
  c.norm_after = true;
  c.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(size.d_model)));
  return c;
}

ModelConfig spark(const Size& size) {
  ModelConfig c = gemma(size, "spark", size.ungated_d_ff);
  c.spark.ffn_active = static_cast<int>(std::lround(0.08 * c.d_ff));
  c.spark.ffn_predictor = c.d_model / 2;
  c.spark.attention_active = c.context_length / 8;
  c.spark.attention_predictor = c.head_dim / 2;
  return c;
}

std::vector<Preset> make_presets() {
  std::vector<Preset> out;
  for (const Size& size : kSizes) {
    const auto add = [&](const std::string& kind, const std::string& description, ModelConfig config) {
      out.push_back({kind + "-" + size.name, description, std::move(config), size.batch, size.learning_rate});
    };
    add("relu2", "ReLU squared, two matrices", llama(size, Activation::relu2, false));
    add("relu", "ReLU, two matrices", llama(size, Activation::relu, false));
    add("reglu", "ReLU-gated, three matrices", llama(size, Activation::relu, true));
    add("swiglu", "SiLU-gated, three matrices", llama(size, Activation::silu, true));
    add("geglu", "GELU-gated with norms after each part: Spark's dense twin",
        gemma(size, "gemma2", size.ungated_d_ff * 2 / 3));
    add("spark", "Spark FFN and attention", spark(size));
  }
  return out;
}

}  // namespace

const std::vector<Preset>& presets() {
  static const std::vector<Preset> all = make_presets();
  return all;
}

std::string preset_names() {
  std::string names;
  for (const Preset& candidate : presets()) names += (names.empty() ? "" : ", ") + candidate.name;
  return names;
}

const Preset& preset(std::string_view name) {
  const auto found =
      std::find_if(presets().begin(), presets().end(), [&](const Preset& candidate) { return candidate.name == name; });
  if (found != presets().end()) return *found;
  throw UsageError("--preset {}: expected one of {}", name, preset_names());
}

}  // namespace torpor::lab
