#include <vector>

#include "engine/kernels/reference/reference.h"

namespace torpor::reference {

void sparse_ffn(const NeuronRows& rows, std::span<const std::int32_t> active, float* values, const float* x,
                float* out) {
  const auto width = static_cast<std::size_t>(rows.down.in);
  std::vector<double> sum(width, 0.0);
  std::vector<float> row(width), factor(static_cast<std::size_t>(rows.multiplier.empty() ? 0 : rows.multiplier.in));
  for (std::size_t k = 0; k < active.size(); ++k) {
    const std::int32_t i = active[k];
    double a = values[k];
    if (!rows.gate.empty() && a != 0) {
      std::vector<float> gate(static_cast<std::size_t>(rows.gate.in));
      row_to_f32(rows.gate, i, gate);
      double projection = rows.gate_bias.empty() ? 0 : rows.gate_bias[static_cast<std::size_t>(i)];
      for (std::size_t j = 0; j < gate.size(); ++j)
        projection += static_cast<double>(x[j]) * static_cast<double>(gate[j]);
      if (rows.activation_threshold > 0 && projection < static_cast<double>(rows.activation_threshold)) projection = 0;
      a = activation(rows.activation, projection);
      values[k] = static_cast<float>(a);
    }
    if (!rows.multiplier.empty()) {
      row_to_f32(rows.multiplier, i, factor);
      double product = rows.multiplier_bias.empty() ? 0 : rows.multiplier_bias[static_cast<std::size_t>(i)];
      for (std::size_t j = 0; j < factor.size(); ++j)
        product += static_cast<double>(x[j]) * static_cast<double>(factor[j]);
      a *= product;
      values[k] = static_cast<float>(a);
    }
    row_to_f32(rows.down, i, row);
    for (std::size_t j = 0; j < width; ++j) sum[j] += a * static_cast<double>(row[j]);
  }
  for (std::size_t j = 0; j < width; ++j) out[j] = static_cast<float>(sum[j]);
}

}  // namespace torpor::reference
