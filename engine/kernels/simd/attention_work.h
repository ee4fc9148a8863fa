// The arguments of one call of attention(), for its kernels. Rows of a key/value head: m = query * group + head in
// group.
#pragma once

#include <algorithm>

#include "engine/kernels/dense.h"

namespace torpor::simd {

/// Below every real score, and finite: exp(-inf - kNoScore) is 0, where exp(-inf - -inf) would be NaN.
inline constexpr float kNoScore = -1e30F;

struct AttentionWork {
  /// From this many rows of a key/value head on, the blocked kernel is used.
  static constexpr std::int64_t kFewRows = 8;

  const AttentionShape& shape;
  const float* q;
  std::int64_t queries, first;
  const float* keys;
  const float* values;
  std::int64_t kv_stride;
  float* out;

  std::int64_t group() const { return shape.heads / shape.kv_heads; }
  std::int64_t width() const { return static_cast<std::int64_t>(shape.heads) * shape.head_dim; }
  std::int64_t row_offset(std::int64_t m, std::int64_t kv_head) const {
    return m / group() * width() + (kv_head * group() + m % group()) * shape.head_dim;
  }
  const float* query_row(std::int64_t m, std::int64_t kv_head) const { return q + row_offset(m, kv_head); }
  float* out_row(std::int64_t m, std::int64_t kv_head) const { return out + row_offset(m, kv_head); }
  /// The first key that a query sees.
  std::int64_t first_key(std::int64_t query) const {
    return shape.window > 0 ? std::max<std::int64_t>(0, first + query - shape.window + 1) : 0;
  }
};

}  // namespace torpor::simd
