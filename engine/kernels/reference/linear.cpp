#include <vector>

#include "engine/kernels/reference/reference.h"

namespace torpor::reference {

void linear(const WeightMatrix& w, const float* x, std::int64_t rows, std::span<const float> bias, float* y) {
  std::vector<float> weights(static_cast<std::size_t>(w.in));  // [in], one output's
  for (std::int64_t o = 0; o < w.out; ++o) {
    row_to_f32(w, o, weights);
    for (std::int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (std::int64_t i = 0; i < w.in; ++i)
        sum += static_cast<double>(x[r * w.in + i]) * static_cast<double>(weights[static_cast<std::size_t>(i)]);
      if (!bias.empty()) sum += static_cast<double>(bias[static_cast<std::size_t>(o)]);
      y[r * w.out + o] = static_cast<float>(sum);
    }
  }
}

}  // namespace torpor::reference
