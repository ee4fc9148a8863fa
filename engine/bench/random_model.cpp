#include "engine/bench/random_model.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "core/activity/scores.h"
#include "core/base/cpu.h"
#include "core/base/error.h"
#include "core/base/json.h"
#include "core/base/large_memory.h"
#include "core/base/random.h"
#include "core/tensor/half_float.h"
#include "engine/models/config_huggingface.h"
#include "engine/models/model_files.h"

namespace torpor {
namespace {

struct Shape {
  const char* name;
  const char* config;  // config.json of the published model, where there is one
};

constexpr Shape kShapes[] = {
    {"gemma2-2b", R"({"model_type": "gemma2", "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
      "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 256000,
      "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 8192, "sliding_window": 4096,
      "query_pre_attn_scalar": 256, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
      "rms_norm_eps": 1e-6})"},
    {"gemma2-2b-spark", R"({"model_type": "spark", "hidden_size": 2304, "intermediate_size": 13824,
      "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 256000,
      "hidden_act": "gelu_pytorch_tanh", "max_position_embeddings": 8192, "rms_norm_eps": 1e-6, "use_post_norms": true,
      "tie_word_embeddings": true, "ffn_active_neurons": 1106, "ffn_predictor_size": 1024, "attention_active_keys": 256,
      "attention_predictor_size": 128})"},
    {"gemma3n-e2b", R"({"model_type": "gemma3n_text", "hidden_size": 2048, "intermediate_size": 8192,
      "num_hidden_layers": 30, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256, "vocab_size": 262400,
      "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
      "sliding_window": 512, "num_kv_shared_layers": 10, "vocab_size_per_layer_input": 262400})"},
    {"nemotron-4b", R"({"model_type": "nemotron", "hidden_size": 3072, "intermediate_size": 9216,
      "num_hidden_layers": 32, "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128,
      "vocab_size": 256000, "hidden_act": "relu2", "max_position_embeddings": 4096, "norm_eps": 1e-5,
      "partial_rotary_factor": 0.5, "tie_word_embeddings": false})"},
    {"llama2-7b", R"({"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
      "num_attention_heads": 32, "vocab_size": 32000, "hidden_act": "silu", "max_position_embeddings": 4096,
      "rms_norm_eps": 1e-5})"},
};

[[noreturn]] void unknown_shape(const std::string& shape) {
  throw InvalidArgument(
      "expected a shape of gemma2-2b, gemma2-2b-spark, gemma3n-e2b, nemotron-4b, llama2-7b or D,FF,LAYERS[,VOCABULARY] "
      "(D a multiple of 128), got \"{}\"",
      shape);
}

Json own_shape(const std::string& shape) {
  std::vector<std::int64_t> sizes;
  const char* at = shape.data();
  const char* const end = at + shape.size();
  while (at < end) {
    std::int64_t size = 0;
    const auto [rest, error] = std::from_chars(at, end, size);
    if (error != std::errc() || size < 1 || size > (1 << 24) || (rest < end && *rest != ',')) unknown_shape(shape);
    sizes.push_back(size);
    at = rest < end ? rest + 1 : rest;
  }
  if (sizes.size() < 3 || sizes.size() > 4 || sizes[0] % 128 != 0) unknown_shape(shape);
  return {{"model_type", "nemotron"},
          {"hidden_size", sizes[0]},
          {"intermediate_size", sizes[1]},
          {"num_hidden_layers", sizes[2]},
          {"num_attention_heads", sizes[0] / 128},
          {"num_key_value_heads", sizes[0] / 128},
          {"head_dim", 128},
          {"vocab_size", sizes.size() == 4 ? sizes[3] : 32000},
          {"hidden_act", "relu2"},
          {"max_position_embeddings", 8192},
          {"norm_eps", 1e-5},
          {"partial_rotary_factor", 0.5},
          {"tie_word_embeddings", false}};
}

/// A generator for many numbers fast (xorshift64*).
class Stream {
 public:
  explicit Stream(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ULL + 0xD1B54A32D192ED03ULL) {}
  std::uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1DULL;
  }

 private:
  std::uint64_t state_;
};

/// Blocks [begin, end) of 32 values, uniform with deviation `deviation`.
void fill(NumberFormat format, double deviation, std::uint64_t seed, std::int64_t begin, std::int64_t end,
          std::byte* to) {
  const auto bytes = static_cast<std::int64_t>(bytes_of(format, 32));
  const auto step = static_cast<float>(deviation * std::sqrt(12.0) / 65536);  // of a uniform 16-bit number
  for (std::int64_t b = begin; b < end; ++b) {
    Stream stream(seed + static_cast<std::uint64_t>(b));
    std::byte* const block = to + b * bytes;
    if (traits(format).quantised) {
      const bool wide = format == NumberFormat::q8_0;
      const std::uint16_t scale = f16_from_f32(static_cast<float>(deviation * std::sqrt(12.0) / (wide ? 256 : 16)));
      std::memcpy(block, &scale, 2);
      for (std::int64_t i = 2; i < bytes; i += 8) {
        const std::uint64_t drawn = stream.next();
        std::memcpy(block + i, &drawn, static_cast<std::size_t>(std::min<std::int64_t>(8, bytes - i)));
      }
      continue;
    }
    float values[32];
    for (int i = 0; i < 32; i += 4) {
      const std::uint64_t drawn = stream.next();
      for (int k = 0; k < 4; ++k)
        values[i + k] = step * static_cast<float>(static_cast<std::int16_t>(drawn >> (16 * k)));
    }
    from_f32(values, format, block);
  }
}

struct WeightPart {
  std::string name;
  NumberFormat format;
  std::vector<std::int64_t> shape;
};

/// Every tensor of the model, under its Hugging Face name.
std::vector<WeightPart> parts_of(const ModelConfig& config, NumberFormat format) {
  const Architecture& architecture = architecture_of(config.model_type, "the shape");
  std::vector<WeightPart> parts;
  for (const TensorRule& rule : architecture.tensors) {
    if (rule.huggingface.empty() || (rule.weight != nullptr && !rule.weight(config)) || rule.optional) continue;
    const bool vector = rule.in == Dimension::none;
    std::vector<std::int64_t> shape{size_of(rule.out, config)};
    if (!vector) shape.push_back(size_of(rule.in, config));
    if (rule.transposed) std::reverse(shape.begin(), shape.end());
    // A few numbers a row (a router's coefficients) are never quantised.
    const bool small = vector || shape.back() % traits(format).block_values != 0;
    for (const int number : numbers_of(rule, rule.huggingface, config)) {
      if (rule.in_layer != nullptr && !rule.in_layer(config, number)) continue;
      const auto [weight, bias] = names_of(rule, false, architecture.prefixes.front(), number);
      parts.push_back({weight, small ? NumberFormat::f32 : format, shape});
      if (rule.bias != nullptr && rule.bias(config)) parts.push_back({bias, NumberFormat::f32, {shape[0]}});
    }
  }
  return parts;
}

std::int64_t bytes_of(const WeightPart& part) {
  return static_cast<std::int64_t>(torpor::bytes_of(part.format, *element_count(part.shape)));
}

}  // namespace

std::vector<std::string> shape_names() {
  std::vector<std::string> names;
  for (const Shape& shape : kShapes) names.emplace_back(shape.name);
  return names;
}

ModelConfig shape_config(const std::string& shape, double density) {
  if (!(density > 0) || density > 1) throw InvalidArgument("expected a density above 0 and up to 1, got {}", density);
  const auto* const known =
      std::find_if(std::begin(kShapes), std::end(kShapes), [&](const Shape& s) { return s.name == shape; });
  const Json json = known != std::end(kShapes) ? Json::parse(known->config) : own_shape(shape);
  ModelConfig config = read_huggingface_config(json, "shape " + shape);
  // Scores are normal with deviation 1: the threshold that a share `density` of them is above.
  if (config.activation == Activation::relu2 && density < 0.5)
    config.activation_threshold = static_cast<float>(normal_quantile(1 - density));
  return config;
}

std::int64_t random_model_bytes(const ModelConfig& config, NumberFormat format) {
  std::int64_t bytes = 0;
  for (const WeightPart& part : parts_of(config, format)) bytes += bytes_of(part);
  return bytes;
}

std::shared_ptr<const Model> random_model(const ModelConfig& config, NumberFormat format, std::uint64_t seed,
                                          ThreadPool& pool) {
  switch (format) {
    case NumberFormat::f32:
    case NumberFormat::f16:
    case NumberFormat::bf16:
    case NumberFormat::q8_0:
    case NumberFormat::q4_0:
      break;
    default:
      throw InvalidArgument("[random_model] expected f32, f16, bf16, q8_0 or q4_0, got {}", traits(format).name);
  }
  const std::int64_t needed = random_model_bytes(config, format), there = cpu_info().memory_bytes;
  if (there > 0 && needed > there)
    throw IoError(
        "out of memory: the weights need {:.1f} GB, this machine has {:.1f} GB. Choose a smaller shape or type",
        static_cast<double>(needed) * 1e-9, static_cast<double>(there) * 1e-9);
  ModelFiles files;
  files.path = "random weights";
  files.config_where = "random weights";
  files.config = config;
  files.archive.set_where("random weights");
  files.own_memory = true;
  std::uint64_t number = seed << 40;
  for (const WeightPart& part : parts_of(config, format)) {
    const std::int64_t elements = *element_count(part.shape);
    const auto whole_blocks = static_cast<std::size_t>(torpor::bytes_of(part.format, (elements + 31) / 32 * 32));
    const auto memory = allocate_large(whole_blocks, part.name);
    if (part.shape.size() == 1) {
      // Norm weights of 1, stored as the model stores them; biases of 0.
      const bool bias = part.name.ends_with(".bias");
      const float value = bias ? 0 : 1 - config.norm_weight_offset;
      for (std::int64_t i = 0; i < elements; ++i) std::memcpy(memory.get() + i * 4, &value, 4);
    } else {
      const double deviation = 1 / std::sqrt(static_cast<double>(part.shape[1]));
      pool.parallel_for((elements + 31) / 32, 4096, [&](long begin, long end, int) {
        fill(part.format, deviation, number, begin, end, memory.get());
      });
      number += static_cast<std::uint64_t>(elements);
    }
    files.archive.add({part.name, part.format, part.shape, {memory.get(), static_cast<std::size_t>(bytes_of(part))}},
                      memory);
  }
  return build_model(std::move(files));
}

}  // namespace torpor
