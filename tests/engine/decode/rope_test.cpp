// The rotation by its definition: position m turns pair i by the angle m * frequency_i, and scores see only
// differences.
#include "engine/decode/rope.h"

#include <cmath>
#include <complex>
#include <numbers>

#include "core/base/random.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

ModelConfig config_of(int head_dim, int rope_dims) {
  ModelConfig config;
  config.head_dim = head_dim;
  config.rope_dims = rope_dims;
  return config;
}

std::vector<float> rotated(const ModelConfig& config, std::vector<float> head, std::int64_t position,
                           bool interleaved) {
  const auto frequencies = rope_frequencies(config);
  std::vector<float> cosines(frequencies.size()), sines(frequencies.size());
  rope_angles(frequencies, {&position, 1}, cosines.data(), sines.data());
  const int heads = static_cast<int>(head.size()) / config.head_dim;
  rotate({heads, config.head_dim, static_cast<int>(frequencies.size()), interleaved}, cosines.data(), sines.data(),
         head.data());
  return head;
}

TEST(Rope, IsAComplexRotationOfEachPair) {
  for (const bool interleaved : {false, true}) {
    for (const auto& [head_dim, dims] : {std::pair{8, 8}, std::pair{10, 6}, std::pair{10, 5}, std::pair{2, 2}}) {
      const ModelConfig config = config_of(head_dim, dims);
      Random random(1);
      std::vector<float> values(static_cast<std::size_t>(3 * head_dim));  // [3 heads, head_dim]
      for (auto& value : values) value = static_cast<float>(random.normal());
      const auto result = rotated(config, values, 17, interleaved);
      const int pairs = (dims + 1) / 2;
      for (int head = 0; head < 3; ++head) {
        for (int i = 0; i < pairs; ++i) {
          const auto a = static_cast<std::size_t>(head * head_dim + (interleaved ? 2 * i : i));
          const auto b = a + static_cast<std::size_t>(interleaved ? 1 : pairs);
          const double angle = 17 * std::pow(10000.0, -2.0 * i / dims);
          const auto expected = std::complex<double>(values[a], values[b]) * std::polar(1.0, angle);
          EXPECT_NEAR(result[a], expected.real(), 1e-5);
          EXPECT_NEAR(result[b], expected.imag(), 1e-5);
        }
        for (int i = 2 * pairs; i < head_dim; ++i) {  // what does not rotate stays
          const auto at = static_cast<std::size_t>(head * head_dim + i);
          EXPECT_EQ(result[at], values[at]);
        }
      }
    }
  }
}

TEST(Rope, ScoresDependOnDistanceAlone) {
  const ModelConfig config = config_of(16, 16);
  Random random(2);
  std::vector<float> q(16), k(16);
  for (auto* vector : {&q, &k})
    for (auto& value : *vector) value = static_cast<float>(random.normal());
  const auto score = [&](std::int64_t at, std::int64_t distance) {
    const auto a = rotated(config, q, at + distance, false), b = rotated(config, k, at, false);
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    return sum;
  };
  EXPECT_NEAR(score(0, 5), score(90, 5), 1e-4);
  EXPECT_GT(std::abs(score(0, 5) - score(0, 6)), 1e-3);
}

TEST(Rope, Llama3KeepsShortWavesStretchesLongOnesAndBlendsBetween) {
  ModelConfig config = config_of(64, 64);
  config.rope_theta = 500000;
  const auto plain = rope_frequencies(config);
  config.rope_scaling = RopeScaling::llama3;
  config.rope_factor = 8;
  config.rope_low_freq_factor = 1;
  config.rope_high_freq_factor = 4;
  config.rope_original_context = 8192;
  const auto scaled = rope_frequencies(config);
  int kept = 0, stretched = 0, blended = 0;
  for (std::size_t i = 0; i < plain.size(); ++i) {
    const double wave = 2 * std::numbers::pi / static_cast<double>(plain[i]);
    const double ratio = static_cast<double>(plain[i]) / static_cast<double>(scaled[i]);
    if (wave < 8192.0 / 4) {
      EXPECT_FLOAT_EQ(ratio, 1);
      ++kept;
    } else if (wave > 8192) {
      EXPECT_FLOAT_EQ(ratio, 8);
      ++stretched;
    } else {
      const double smooth = (8192 / wave - 1) / (4 - 1);
      EXPECT_NEAR(1 / ratio, (1 - smooth) / 8 + smooth, 1e-5);
      ++blended;
    }
  }
  EXPECT_GT(kept, 0);
  EXPECT_GT(stretched, 0);
  EXPECT_GT(blended, 0);
}

TEST(Rope, LinearAndDivisorsSlowTheRotation) {
  ModelConfig config = config_of(8, 8);
  const auto plain = rope_frequencies(config);
  config.rope_scaling = RopeScaling::linear;
  config.rope_factor = 4;
  EXPECT_FLOAT_EQ(rope_frequencies(config)[2], plain[2] / 4);
  config.rope_scaling = RopeScaling::none;
  config.rope_frequency_divisors = {1, 2, 4, 8};
  EXPECT_FLOAT_EQ(rope_frequencies(config)[3], plain[3] / 8);
  config.positions = Positions::learned;
  EXPECT_TRUE(rope_frequencies(config).empty());
}

}  // namespace
}  // namespace torpor
