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
  const std::byte* keys_q8_0 = nullptr;  // instead of keys and values; then kv_stride is head_dim
  const std::byte* values_q8_0 = nullptr;

  bool quantised() const { return keys_q8_0 != nullptr; }
  /// The keys (or values) of a head at positions [from, from + count), kv_stride apart: where they lie, or turned to
  /// f32 in `scratch`, [count, head_dim].
  const float* key_rows(std::int64_t kv_head, std::int64_t from, std::int64_t count, float* scratch) const {
    return rows(keys, keys_q8_0, kv_head, from, count, scratch);
  }
  const float* value_rows(std::int64_t kv_head, std::int64_t from, std::int64_t count, float* scratch) const {
    return rows(values, values_q8_0, kv_head, from, count, scratch);
  }

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

 private:
  const float* rows(const float* plain, const std::byte* quantised, std::int64_t kv_head, std::int64_t from,
                    std::int64_t count, float* scratch) const {
    const std::int64_t head = shape.head_offset(kv_head);
    if (quantised == nullptr) return plain + head + from * kv_stride;
    constexpr std::int64_t kBlock = 32, kBytes = 34;
    to_f32(NumberFormat::q8_0, quantised + (head + from * shape.head_dim) / kBlock * kBytes,
           {scratch, static_cast<std::size_t>(count * shape.head_dim)});
    return scratch;
  }
};

}  // namespace torpor::simd
