// One step of Adam for a row of weights that do not all have the same count. Internal to lab/recycle.
#pragma once

#include <cstdint>

namespace torpor::lab::detail {

/// Of a step, but for the counts.
struct AdamStep {
  float beta1, beta2, eps;
  float weight_decay;  // added to the gradient
  float kept;          // of the weights before the step: below 1 where decay is decoupled
};

/// m = beta1 m + (1 - beta1) (g + weight_decay w), v likewise with the square, and w = kept w - step m / (sqrt(v) scale
/// + eps) for n weights, where step = lr / (1 - beta1^k) and scale = 1 / sqrt(1 - beta2^k) fall with the count k: each
/// weight takes the larger of its row's and its column's. Thread-safe.
void adam_row(const AdamStep& adam, std::int64_t n, float row_step, float row_scale, const float* column_step,
              const float* column_scale, const float* g, float* w, float* m, float* v);

}  // namespace torpor::lab::detail
