// The public face: arguments are checked here, before any work; the work is done in simd/.
#include "engine/kernels/spark.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <vector>

#include "core/base/error.h"
#include "engine/kernels/simd/simd.h"
#include "engine/kernels/sparse.h"

namespace torpor {

namespace {

void check_shape(const SparkAttentionShape& shape) {
  const AttentionShape& a = shape.attention;
  if (a.heads < 1 || a.kv_heads < 1 || a.head_dim < 1 || a.heads % a.kv_heads != 0 || a.soft_cap != 0)
    throw InvalidArgument(
        "[spark_attention] expected heads a multiple of kv_heads, a head_dim and no soft cap, got {}, "
        "{}, {}, {}",
        a.heads, a.kv_heads, a.head_dim, a.soft_cap);
  if (shape.predictor < 0 || shape.predictor >= a.head_dim || shape.active < 1)
    throw InvalidArgument(
        "[spark_attention] expected a predictor of 0 to {} and at least one active key, got {} and {}", a.head_dim - 1,
        shape.predictor, shape.active);
  if (shape.rest_offset < 0 || (shape.rest_offset > 0 && shape.predictor == 0))
    throw InvalidArgument("[spark_attention] expected keys to be split only where there is a predictor, got {} and {}",
                          shape.rest_offset, shape.predictor);
}

}  // namespace

SparkAttentionCounts spark_attention_q8_0(const SparkAttentionShape& shape, const float* q, std::int64_t queries,
                                          std::int64_t first, const std::byte* keys, const std::byte* values,
                                          float* out, ThreadPool& pool) {
  check_shape(shape);
  const AttentionShape& a = shape.attention;
  if (a.head_dim % 32 != 0 || a.head_stride % 32 != 0 || a.head_stride < a.head_dim || shape.predictor % 32 != 0 ||
      shape.rest_offset % 32 != 0 || (shape.predictor > 0 && shape.rest_offset == 0))
    throw InvalidArgument(
        "[spark_attention_q8_0] expected multiples of 32 and keys in two tables where there is a predictor, got a "
        "head_dim of {}, {} values a head, a predictor of {} and {} values between the tables",
        a.head_dim, a.head_stride, shape.predictor, shape.rest_offset);
  return simd::spark_attention_q8_0(shape, q, queries, first, keys, values, out, pool);
}

SparkAttentionCounts spark_attention(const SparkAttentionShape& shape, const float* q, std::int64_t queries,
                                     std::int64_t first, const float* keys, const float* values, std::int64_t kv_stride,
                                     float* out, ThreadPool& pool) {
  check_shape(shape);
  return simd::spark_attention(shape, q, queries, first, keys, values, kv_stride, out, pool);
}

std::int64_t spark_activate(Activation activation, std::int64_t k, float* scores, const float* ups, std::int64_t rows,
                            std::int64_t neurons, ThreadPool& pool) {
  if (k < 1 || neurons < 1)
    throw InvalidArgument("[spark_activate] expected k >= 1 and neurons >= 1, got {} and {}", k, neurons);
  std::atomic<std::int64_t> above{0};
  const auto job = [&](long begin, long end, int) {
    thread_local std::vector<std::int32_t> index;  // kept, so that a token of decoding allocates nothing
    thread_local std::vector<float> kept;
    index.resize(static_cast<std::size_t>(neurons));
    kept.resize(index.size());
    std::int64_t count = 0;
    for (long r = begin; r < end; ++r) {
      float* const row = scores + r * neurons;
      const std::int64_t active = statistical_top_k(row, neurons, k, index.data(), kept.data());
      activate(activation, kept.data(), active);
      std::fill(row, row + neurons, 0.F);
      for (std::int64_t i = 0; i < active; ++i) {
        const std::int64_t at = index[static_cast<std::size_t>(i)];
        row[at] = kept[static_cast<std::size_t>(i)] * ups[r * neurons + at];
      }
      count += active;
    }
    above.fetch_add(count, std::memory_order_relaxed);
  };
  pool.parallel_for(rows, 1, std::ref(job));
  return above.load();
}

}  // namespace torpor
