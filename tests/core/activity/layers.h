// Random layers and slow formulas shared by the tests of core/activity.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/activity/neuron_layer.h"
#include "core/base/random.h"

namespace torpor::testing {

inline std::shared_ptr<NeuronLayer> random_layer(int neurons, int width, std::uint64_t seed) {
  Random random(seed);
  auto layer = std::make_shared<NeuronLayer>();
  layer->neurons = neurons;
  layer->width = width;
  layer->outgoing_rows.resize(static_cast<std::size_t>(neurons) * static_cast<std::size_t>(width));
  for (auto& w : layer->outgoing_rows) w = static_cast<float>(random.normal());
  for (int i = 0; i < neurons; ++i) {  // rows of very different lengths, so that |a| and m order neurons differently
    const auto scale = static_cast<float>(std::exp(random.normal()));
    for (int j = 0; j < width; ++j) layer->outgoing_rows[static_cast<std::size_t>(i * width + j)] *= scale;
  }
  layer->outgoing_norms = row_norms(layer->outgoing_rows, neurons, width);
  return layer;
}

/// ReLU²-like rows: about `zeros` of the entries are exactly 0, the rest long-tailed, either sign if `both_signs`.
inline std::vector<float> random_activations(int rows, int neurons, double zeros, std::uint64_t seed,
                                             bool both_signs = false) {
  Random random(seed, 7);
  std::vector<float> a(static_cast<std::size_t>(rows) * static_cast<std::size_t>(neurons), 0.F);
  for (auto& x : a) {
    if (random.uniform() < zeros) continue;
    const double z = random.normal();
    x = static_cast<float>(z * z * z * (both_signs ? 1 : z > 0 ? 1 : -1));
  }
  return a;
}

/// || sum over i with keep(i) of a_i w_i ||, in double.
template <typename Keep>
double slow_norm(std::span<const float> a, const NeuronLayer& layer, Keep keep) {
  std::vector<double> sum(static_cast<std::size_t>(layer.width), 0);
  for (int i = 0; i < layer.neurons; ++i)
    if (keep(i))
      for (int j = 0; j < layer.width; ++j)
        sum[static_cast<std::size_t>(j)] += static_cast<double>(a[static_cast<std::size_t>(i)]) *
                                            layer.outgoing_rows[static_cast<std::size_t>(i * layer.width + j)];
  double squares = 0;
  for (const double x : sum) squares += x * x;
  return std::sqrt(squares);
}

/// CETT of one token straight from its definition.
inline double slow_cett(std::span<const float> a, const NeuronLayer& layer, float epsilon) {
  const double tail = slow_norm(a, layer, [&](int i) {
    return std::fabs(a[static_cast<std::size_t>(i)]) * layer.outgoing_norms[static_cast<std::size_t>(i)] <= epsilon;
  });
  return tail / slow_norm(a, layer, [](int) { return true; });
}

}  // namespace torpor::testing
