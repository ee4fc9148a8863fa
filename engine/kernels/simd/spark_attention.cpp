#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <vector>

#include "engine/kernels/simd/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/simd/spark_attention.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "engine/kernels/simd/sparse_rows-inl.h"

namespace torpor::simd {
#ifndef TORPOR_SIMD_SPARK_WORK
#define TORPOR_SIMD_SPARK_WORK
/// What one query and head needs; kept by each thread, so that a token allocates nothing once contexts have been seen.
struct SparkWork {
  std::vector<float> scores, kept;  // [visible keys]
  std::vector<std::int32_t> index;

  void reserve(std::int64_t keys) {
    const auto n = static_cast<std::size_t>(keys);
    if (scores.size() >= n) return;
    const std::size_t room = std::max(n, scores.size() * 2);
    scores.resize(room);
    kept.resize(room);
    index.resize(room);
  }
};

/// Rows of keys or values, f32 or q8_0.
struct SparkTable {
  const std::byte* data;
  std::int64_t stride;  // bytes
  bool quantised;
};
#endif
}  // namespace torpor::simd

HWY_BEFORE_NAMESPACE();
namespace torpor::simd::HWY_NAMESPACE {
namespace {

/// work<size>(k, rows, next): rows of the table, those listed or all, some at a time.
template <class Work>
HWY_INLINE void for_keys(const SparkTable& table, const std::int32_t* index, std::int64_t count, const Work& work) {
  const auto row_of = [&](std::int64_t k) { return table.data + (index == nullptr ? k : index[k]) * table.stride; };
  for_row_groups(count, row_of, work, [&](int) { return row_of(count - 1); });
}

/// y[k] = scale * x . rows[k][0 … width)
void scaled_dots(const SparkTable& table, const std::int32_t* index, std::int64_t count, const float* x,
                 std::int64_t width, float scale, float* y) {
  if (!table.quantised) {
    for_keys(table, index, count,
             [&]<int kRows>(std::int64_t k, const std::byte* const* rows, const std::byte* const* next) HWY_ATTR {
               dot_plain<float, kRows, 1>(rows, next, x, width, y + k);
               for (int r = 0; r < kRows; ++r) y[k + r] *= scale;
             });
    return;
  }
  QuantisedRows& q = quantised_rows(1, width);
  quantise_rows(x, q);
  for_keys(table, index, count,
           [&]<int kRows>(std::int64_t k, const std::byte* const* rows, const std::byte* const* next) HWY_ATTR {
             dot_q8_0<kRows, 1>(rows, next, q, 0, y + k);
             for (int r = 0; r < kRows; ++r) y[k + r] *= scale;
           });
}

/// out = sum_k weights[k] rows[k]
void weighted_sum(const SparkTable& table, const std::int32_t* index, std::int64_t count, const float* weights,
                  std::int64_t width, float* out) {
  std::fill(out, out + width, 0.0F);
  for_keys(table, index, count,
           [&]<int kRows>(std::int64_t k, const std::byte* const* rows, const std::byte* const* next) HWY_ATTR {
             if (table.quantised)
               add_q8_0_rows<kRows>(rows, weights + k, next, width, out);
             else
               add_plain_rows<float, kRows>(rows, weights + k, next, width, out);
           });
}

}  // namespace
}  // namespace torpor::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace torpor::simd {

HWY_EXPORT(scaled_dots);
HWY_EXPORT(weighted_sum);

namespace {

float softplus(float x) {
  return std::max(x, 0.F) + std::log1p(std::exp(-std::fabs(x)));
}

/// What one head reads, from the first key that it sees on: the part of its keys that scores, the others, its values.
struct HeadTables {
  SparkTable keys, rest, values;
};

/// Where a head's tables begin: keys and values of f32 with a stride in floats, or of q8_0.
struct SparkCache {
  const SparkAttentionShape& shape;
  const std::byte* keys;
  const std::byte* values;
  std::int64_t kv_stride;  // 0: q8_0

  HeadTables head(std::int64_t kv_head, std::int64_t from) const {
    const AttentionShape& a = shape.attention;
    const bool q8_0 = kv_stride == 0, split = shape.rest_offset > 0;
    const std::int64_t width = a.head_dim, scored = shape.predictor > 0 ? shape.predictor : width;
    const auto bytes = [&](std::int64_t values_count) {
      return q8_0 ? values_count / 32 * 34 : values_count * static_cast<std::int64_t>(sizeof(float));
    };
    const std::int64_t at = a.head_offset(kv_head), row = q8_0 ? width : kv_stride;
    const auto table = [&](const std::byte* base, std::int64_t offset, std::int64_t stride) {
      return SparkTable{base + bytes(at + offset + from * stride), bytes(stride), q8_0};
    };
    return {table(keys, 0, split ? scored : row),
            table(keys, split ? shape.rest_offset : scored, split ? width - scored : row), table(values, 0, row)};
  }
};

/// One query and head over n of the head's keys. Returns how many were kept; 0: none was above the threshold, and the
/// largest was taken.
std::int64_t attend(const SparkAttentionShape& shape, const float* q, const HeadTables& head, std::int64_t n,
                    float* out, SparkWork& work) {
  const int width = shape.attention.head_dim;
  const int scored = shape.predictor > 0 ? shape.predictor : width;
  work.reserve(n);
  float* const scores = work.scores.data();
  float* const weights = work.kept.data();
  std::int32_t* const index = work.index.data();
  HWY_DYNAMIC_DISPATCH(scaled_dots)
  (head.keys, nullptr, n, q, scored, shape.attention.scale, scores);
  const std::int64_t above = torpor::statistical_top_k(scores, n, shape.active, index, weights);
  const std::int64_t kept = std::max<std::int64_t>(above, 1);
  if (above == 0) {
    index[0] = static_cast<std::int32_t>(std::max_element(scores, scores + n) - scores);
    weights[0] = scores[index[0]];
  }
  softmax(weights, kept);  // of the shifted scores: softmax does not see a shift
  if (shape.predictor > 0) {
    HWY_DYNAMIC_DISPATCH(scaled_dots)
    (head.rest, index, kept, q + scored, width - scored, shape.attention.scale, scores);
    for (std::int64_t k = 0; k < kept; ++k) weights[k] *= softplus(scores[k]);
  }
  HWY_DYNAMIC_DISPATCH(weighted_sum)(head.values, index, kept, weights, width, out);
  return above;
}

}  // namespace

namespace {

SparkAttentionCounts attend_all(const SparkCache& cache, const float* q, std::int64_t queries, std::int64_t first,
                                float* out, ThreadPool& pool) {
  const SparkAttentionShape& shape = cache.shape;
  const AttentionShape& a = shape.attention;
  const int group = a.heads / a.kv_heads;
  std::atomic<std::int64_t> kept{0}, most{0}, empty{0};
  const auto job = [&](long begin, long end, int) {
    thread_local SparkWork work;
    std::int64_t sum = 0, largest = 0, without = 0;
    for (long task = begin; task < end; ++task) {
      const std::int64_t r = task / a.heads, head = task % a.heads;
      const std::int64_t position = first + r;
      const std::int64_t from = a.window > 0 ? std::max<std::int64_t>(0, position + 1 - a.window) : 0;
      const std::int64_t place = (r * a.heads + head) * a.head_dim;
      const std::int64_t above =
          attend(shape, q + place, cache.head(head / group, from), position + 1 - from, out + place, work);
      without += static_cast<std::int64_t>(above == 0);
      sum += std::max<std::int64_t>(above, 1);
      largest = std::max(largest, std::max<std::int64_t>(above, 1));
    }
    kept.fetch_add(sum, std::memory_order_relaxed);
    empty.fetch_add(without, std::memory_order_relaxed);
    for (std::int64_t seen = most.load(std::memory_order_relaxed);
         largest > seen && !most.compare_exchange_weak(seen, largest, std::memory_order_relaxed);) {
    }
  };
  pool.parallel_for(queries * a.heads, 1, std::ref(job));
  return {queries * a.heads, kept.load(), most.load(), empty.load()};
}

}  // namespace

SparkAttentionCounts spark_attention(const SparkAttentionShape& shape, const float* q, std::int64_t queries,
                                     std::int64_t first, const float* keys, const float* values, std::int64_t kv_stride,
                                     float* out, ThreadPool& pool) {
  return attend_all(
      {shape, reinterpret_cast<const std::byte*>(keys), reinterpret_cast<const std::byte*>(values), kv_stride}, q,
      queries, first, out, pool);
}

SparkAttentionCounts spark_attention_q8_0(const SparkAttentionShape& shape, const float* q, std::int64_t queries,
                                          std::int64_t first, const std::byte* keys, const std::byte* values,
                                          float* out, ThreadPool& pool) {
  return attend_all({shape, keys, values, 0}, q, queries, first, out, pool);
}

}  // namespace torpor::simd
#endif
