// The attention and the activations of the Spark Transformer (You et al. 2025, eq. 4 to 7; spark.md 2).
#pragma once

#include "engine/kernels/dense.h"

namespace torpor {

struct SparkAttentionShape {
  AttentionShape attention;  // soft_cap must be 0
  int predictor = 0;         // r: leading values of a head that score keys; 0: all of them, and no weight by the others
  std::int64_t active = 0;   // k: nominal number of keys kept for a query and head
  std::int64_t rest_offset = 0;  // 0: a key is one row. Else its first r values lie in a table of rows of r, and the
                                 // others so many floats behind that table's start, in rows of head_dim - r
};

/// What was attended to, over queries and heads.
struct SparkAttentionCounts {
  std::int64_t rows = 0;        // queries times heads
  std::int64_t kept = 0;        // keys, in all rows
  std::int64_t most = 0;        // keys in one row
  std::int64_t empty_rows = 0;  // rows in which no score was above the threshold: the largest was kept
};

/// Arguments as attention() in dense.h; `predictor` < head_dim. For a query and head, with n visible keys:
///   s1_j = scale q[0:r].k_j[0:r]; kept: s1_j > mean + std Q(1 - k / n), all where n <= k, the first largest where
///   none; out = sum over kept j of softmax(s1)_j softplus(scale q[r:].k_j[r:]) v_j, the weights not normalised again.
/// Of the keys that are not kept only the first r values are read, of their values nothing. The same bits on any number
/// of threads.
SparkAttentionCounts spark_attention(const SparkAttentionShape& shape, const float* q, std::int64_t queries,
                                     std::int64_t first, const float* keys, const float* values, std::int64_t kv_stride,
                                     float* out, ThreadPool& pool);

/// The same with keys and values in q8_0 tables, the positions of a head one after another: as attention_q8_0 has
/// values, and keys in two tables where there is a predictor: rest_offset values apart, a multiple of 32, as the
/// predictor is. Scores round the query to 16 bits (quantised_rows.h).
SparkAttentionCounts spark_attention_q8_0(const SparkAttentionShape& shape, const float* q, std::int64_t queries,
                                          std::int64_t first, const std::byte* keys, const std::byte* values,
                                          float* out, ThreadPool& pool);

/// Rows of [neurons] scores become activations: f(max(x - theta, 0)) * up, theta the row's statistical threshold for
/// about k of them (eq. 4 to 6). f(0) must be 0. Returns how many were above theta.
std::int64_t spark_activate(Activation activation, std::int64_t k, float* scores, const float* ups, std::int64_t rows,
                            std::int64_t neurons, ThreadPool& pool);

}  // namespace torpor
