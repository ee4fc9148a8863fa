// Layers and caches in bf16 for the tests of the CUDA backend, with what the reference says of them.
#pragma once

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "core/activity/scores.h"
#include "engine/kernels/reference/reference.h"
#include "tests/engine/kernels/kernel_test_support.h"

namespace torpor::testing {

inline std::vector<float> rounded(std::vector<float> values) {
  std::vector<std::byte> bytes(values.size() * 2);
  from_f32(values, NumberFormat::bf16, bytes.data());
  to_f32(NumberFormat::bf16, bytes.data(), values);
  return values;
}

/// The largest difference over the root mean square of what is wanted.
inline double worst(const std::vector<float>& got, const std::vector<float>& wanted) {
  if (wanted.empty()) return 0;
  double size = 0, difference = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    size += std::pow(static_cast<double>(wanted[i]), 2);
    difference = std::max(difference, std::abs(static_cast<double>(got[i]) - static_cast<double>(wanted[i])));
  }
  return difference / std::sqrt(size / static_cast<double>(got.size()) + 1e-30);
}

struct CudaLayer {
  std::int64_t neurons, first_in, multiplier_in, width;
  bool biased = false;
  std::vector<std::byte> first, multiplier, down;
  std::vector<float> bias, x;
  NeuronRows rows;
  WeightMatrix scorer;

  CudaLayer(std::int64_t the_neurons, std::int64_t the_first_in, std::int64_t the_multiplier_in, std::int64_t the_width,
            bool the_bias)
      : neurons(the_neurons), first_in(the_first_in), multiplier_in(the_multiplier_in), width(the_width) {
    const auto matrix = [&](std::int64_t in, std::uint64_t seed) {
      return in > 0 ? random_weights(NumberFormat::bf16, neurons, in, seed) : std::vector<std::byte>{};
    };
    first = matrix(first_in, 1);
    multiplier = matrix(multiplier_in, 2);
    down = matrix(width, 3);
    if (the_bias) bias = normal_values(neurons, 4);
    x = normal_values(std::max<std::int64_t>(1, first_in + multiplier_in), 5);
    rows.down = {NumberFormat::bf16, down.data(), neurons, width};
    if (multiplier_in > 0) rows.multiplier = {NumberFormat::bf16, multiplier.data(), neurons, multiplier_in};
    if (first_in > 0) scorer = {NumberFormat::bf16, first.data(), neurons, first_in};
    rows.multiplier_bias = bias;
  }

  /// What a Spark layer of these weights computes.
  std::int64_t spark(Activation activation, std::int64_t k, std::vector<float>& out) const {
    std::vector<float> scores(static_cast<std::size_t>(neurons));
    reference::linear(scorer, x.data(), 1, {}, scores.data());
    const double theta = statistical_threshold(scores, k);
    std::vector<std::int32_t> active;
    std::vector<float> values;
    for (std::size_t i = 0; i < scores.size(); ++i)
      if (static_cast<double>(scores[i]) > theta) {
        active.push_back(static_cast<std::int32_t>(i));
        values.push_back(k >= neurons ? scores[i] : static_cast<float>(static_cast<double>(scores[i]) - theta));
      }
    reference::activate(activation, values.data(), std::ssize(values));
    out.resize(static_cast<std::size_t>(width));
    reference::sparse_ffn(rows, active, values.data(), x.data() + first_in, out.data());
    return std::ssize(active);
  }
};

// One neuron and many; widths of one piece, of several and of more than the block has threads.
inline const std::vector<CudaLayer>& cuda_layers() {
  static const std::vector<CudaLayer> layers = [] {
    std::vector<CudaLayer> made;
    made.reserve(5);  // they point into themselves
    made.emplace_back(1, 8, 8, 8, false);
    made.emplace_back(70, 16, 24, 40, true);
    made.emplace_back(333, 64, 0, 72, false);
    made.emplace_back(500, 256, 264, 520, true);
    made.emplace_back(90, 32, 40, 2304, false);
    return made;
  }();
  return layers;
}

struct CudaCache {
  SparkAttentionShape shape;
  std::int64_t positions;
  std::vector<float> q, keys, values;  // rounded to bf16: [positions, kv_heads, head_dim]

  CudaCache(int heads, int kv_heads, int head_dim, int predictor, std::int64_t active, std::int64_t the_positions)
      : shape{{.heads = heads, .kv_heads = kv_heads, .head_dim = head_dim, .scale = 0.2F}, predictor, active},
        positions(the_positions),
        q(normal_values(heads * head_dim, 1)),
        keys(rounded(normal_values(positions * kv_heads * head_dim, 2))),
        values(rounded(normal_values(positions * kv_heads * head_dim, 3))) {}

  SparkAttentionCounts wanted(std::vector<float>& out) const {
    out.resize(q.size());
    const AttentionShape& a = shape.attention;
    return reference::spark_attention(shape, q.data(), 1, positions - 1, keys.data(), values.data(),
                                      std::int64_t{a.kv_heads} * a.head_dim, out.data());
  }
};

inline std::vector<CudaCache> cuda_caches() {
  return {{1, 1, 16, 8, 4, 1}, {2, 1, 24, 8, 5, 40}, {4, 2, 64, 32, 16, 300}, {8, 4, 256, 128, 64, 700}};
}

}  // namespace torpor::testing
