#include <cmath>

#include "engine/kernels/reference/reference.h"

namespace torpor::reference {

void rms_norm(const float* x, std::int64_t rows, std::span<const float> weight, float weight_offset, float eps,
              float* y) {
  const auto width = static_cast<std::int64_t>(weight.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    double squares = 0;
    for (std::int64_t i = 0; i < width; ++i) {
      const double value = x[r * width + i];
      squares += value * value;
    }
    const double scale = 1 / std::sqrt(squares / static_cast<double>(width) + static_cast<double>(eps));
    for (std::int64_t i = 0; i < width; ++i) {
      const double gain = static_cast<double>(weight[static_cast<std::size_t>(i)]) + static_cast<double>(weight_offset);
      y[r * width + i] = static_cast<float>(static_cast<double>(x[r * width + i]) * scale * gain);
    }
  }
}

void layer_norm(const float* x, std::int64_t rows, std::span<const float> weight, float weight_offset,
                std::span<const float> bias, float eps, float* y) {
  const auto width = static_cast<std::int64_t>(weight.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    double mean = 0;
    for (std::int64_t i = 0; i < width; ++i) mean += static_cast<double>(x[r * width + i]);
    mean /= static_cast<double>(width);
    double variance = 0;
    for (std::int64_t i = 0; i < width; ++i) {
      const double d = static_cast<double>(x[r * width + i]) - mean;
      variance += d * d;
    }
    variance /= static_cast<double>(width);
    const double scale = 1 / std::sqrt(variance + static_cast<double>(eps));
    for (std::int64_t i = 0; i < width; ++i) {
      const auto k = static_cast<std::size_t>(i);
      const double gain = static_cast<double>(weight[k]) + static_cast<double>(weight_offset);
      const double shift = bias.empty() ? 0 : static_cast<double>(bias[k]);
      y[r * width + i] = static_cast<float>((static_cast<double>(x[r * width + i]) - mean) * scale * gain + shift);
    }
  }
}

}  // namespace torpor::reference
