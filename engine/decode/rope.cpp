#include "engine/decode/rope.h"

#include <cmath>
#include <numbers>

namespace torpor {
namespace {

// Llama 3.1's rule. Waves longer than original_context / low_freq_factor are stretched by `factor`, those shorter than
// original_context / high_freq_factor stay, and between them the frequency moves linearly from one to the other.
float scale_llama3(const ModelConfig& config, float frequency) {
  const auto context = static_cast<float>(config.rope_original_context);
  const float low = config.rope_low_freq_factor, high = config.rope_high_freq_factor;
  const float wavelength = 2 * std::numbers::pi_v<float> / frequency;
  if (wavelength > context / low) return frequency / config.rope_factor;
  if (wavelength < context / high) return frequency;
  const float smooth = (context / wavelength - low) / (high - low);
  return (1 - smooth) * frequency / config.rope_factor + smooth * frequency;
}

}  // namespace

std::vector<float> rope_frequencies(const ModelConfig& config, bool local) {
  if (config.positions != Positions::rope) return {};
  const float theta = local ? config.rope_local_theta : config.rope_theta;
  const RopeScaling scaling = local ? RopeScaling::none : config.rope_scaling;
  std::vector<float> frequencies;
  const auto ladder = [&](int dims) {
    for (int i = 0; i < (dims + 1) / 2; ++i) {
      const float exponent = static_cast<float>(2 * i) / static_cast<float>(dims);
      float frequency = 1 / std::pow(theta, exponent);
      if (scaling == RopeScaling::linear) frequency /= config.rope_factor;
      if (scaling == RopeScaling::llama3) frequency = scale_llama3(config, frequency);
      if (!local && !config.rope_frequency_divisors.empty())
        frequency /= config.rope_frequency_divisors[frequencies.size()];
      frequencies.push_back(frequency);
    }
  };
  if (const int predictor = config.spark.attention_predictor; predictor > 0) {
    ladder(predictor);
    ladder(config.head_dim - predictor);
  } else {
    ladder(config.rope_dims);
  }
  return frequencies;
}

void rope_angles(std::span<const float> frequencies, std::span<const std::int64_t> positions, float* cosines,
                 float* sines) {
  for (const auto position : positions) {
    for (const float frequency : frequencies) {
      const float angle = static_cast<float>(position) * frequency;
      *cosines++ = std::cos(angle);
      *sines++ = std::sin(angle);
    }
  }
}

void rotate(const RopeLayout& layout, const float* cosines, const float* sines, float* row) {
  const int step = layout.interleaved ? 2 : 1;
  const int partner = layout.interleaved ? 1 : layout.pairs;
  for (int head = 0; head < layout.heads; ++head) {
    float* values = row + static_cast<std::int64_t>(head) * layout.head_dim;
    for (int i = 0; i < layout.pairs; ++i) {
      float& a = values[i * step];
      float& b = values[i * step + partner];
      const float rotated = a * cosines[i] - b * sines[i];
      b = b * cosines[i] + a * sines[i];
      a = rotated;
    }
  }
}

}  // namespace torpor
