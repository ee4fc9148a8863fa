// Spark attention as one operator with a hand-written backward (You et al. 2025, eq. 7; spark.md 2.2): nothing of
// [positions, positions] is kept between forward and backward, and only kept keys cost more than a comparison.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "engine/kernels/spark.h"

namespace torpor::lab {

struct SparkAttentionOptions {
  std::int64_t predictor = 0;  // r: leading values of a head that score keys; 0: all, and no weight by the others
  std::int64_t active = 1;     // k: nominal number of keys kept for a query and head
  std::int64_t window = 0;     // a query sees so many positions up to its own; 0: all
  double scale = 1;
};

/// q: [sequences, heads, positions, head_dim]; k, v: [sequences, kv_heads, positions, head_dim], heads a multiple of
/// kv_heads; f32, bf16 or f64, one type, CPU, any strides. Query i sees keys up to i. Returns [sequences, heads,
/// positions, head_dim]; what was attended to is added to `counts`. The selection has no gradient: softmax does not
/// feel the threshold (spark.md 2.3). First derivatives only. Under autocast the products are in its type. Throws
/// InvalidArgument for other shapes, types or options. Thread-safe for distinct `counts`.
at::Tensor spark_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const SparkAttentionOptions& options, SparkAttentionCounts& counts);

}  // namespace torpor::lab
