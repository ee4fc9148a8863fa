#include "engine/kernels/spark.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "core/activity/scores.h"
#include "core/base/error.h"

namespace torpor {
namespace {

float dot(const float* a, const float* b, int n) {
  float sum = 0;
  for (int i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

float softplus(float x) {
  return std::max(x, 0.F) + std::log1p(std::exp(-std::fabs(x)));
}

/// One query and head over the keys [from, from + n).
class Row {
 public:
  explicit Row(const SparkAttentionShape& shape) : shape_(shape) {}

  /// keys, values: those of the first visible position and this head. Returns how many were kept.
  std::int64_t attend(const float* q, const float* keys, const float* values, std::int64_t stride, std::int64_t n,
                      float* out, bool& was_empty) {
    const int width = shape_.attention.head_dim;
    const int scored = shape_.predictor > 0 ? shape_.predictor : width;
    const float scale = shape_.attention.scale;
    scores_.resize(static_cast<std::size_t>(n));
    for (std::int64_t j = 0; j < n; ++j)
      scores_[static_cast<std::size_t>(j)] = scale * dot(q, keys + j * stride, scored);
    const double theta = statistical_threshold(scores_, shape_.active);
    kept_.clear();
    for (std::int64_t j = 0; j < n; ++j)
      if (static_cast<double>(scores_[static_cast<std::size_t>(j)]) > theta) kept_.push_back(j);
    const auto largest = std::max_element(scores_.begin(), scores_.end());
    was_empty = kept_.empty();
    if (was_empty) kept_.push_back(largest - scores_.begin());

    double sum = 0;
    for (const std::int64_t j : kept_) sum += std::exp(static_cast<double>(score(j) - *largest));
    std::fill(out, out + width, 0.F);
    for (const std::int64_t j : kept_) {
      auto weight = static_cast<float>(std::exp(static_cast<double>(score(j) - *largest)) / sum);
      if (shape_.predictor > 0) weight *= softplus(scale * dot(q + scored, keys + j * stride + scored, width - scored));
      const float* const value = values + j * stride;
      for (int i = 0; i < width; ++i) out[i] += weight * value[i];
    }
    return static_cast<std::int64_t>(kept_.size());
  }

 private:
  float score(std::int64_t j) const { return scores_[static_cast<std::size_t>(j)]; }

  const SparkAttentionShape& shape_;
  std::vector<float> scores_;
  std::vector<std::int64_t> kept_;
};

}  // namespace

SparkAttentionCounts spark_attention(const SparkAttentionShape& shape, const float* q, std::int64_t queries,
                                     std::int64_t first, const float* keys, const float* values, std::int64_t kv_stride,
                                     float* out, ThreadPool& pool) {
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
  std::vector<SparkAttentionCounts> by_thread(static_cast<std::size_t>(pool.threads()));
  const int group = a.heads / a.kv_heads;
  pool.parallel_for(queries * a.heads, 1, [&](long begin, long end, int thread) {
    SparkAttentionCounts& counts = by_thread[static_cast<std::size_t>(thread)];
    Row row(shape);
    for (long task = begin; task < end; ++task) {
      const std::int64_t r = task / a.heads, head = task % a.heads;
      const std::int64_t position = first + r;
      const std::int64_t from = a.window > 0 ? std::max<std::int64_t>(0, position + 1 - a.window) : 0;
      const std::int64_t at = from * kv_stride + head / group * a.head_dim;
      const std::int64_t place = (r * a.heads + head) * a.head_dim;
      bool was_empty = false;
      const std::int64_t kept =
          row.attend(q + place, keys + at, values + at, kv_stride, position + 1 - from, out + place, was_empty);
      ++counts.rows;
      counts.kept += kept;
      counts.most = std::max(counts.most, kept);
      counts.empty_rows += static_cast<std::int64_t>(was_empty);
    }
  });
  SparkAttentionCounts total;
  for (const SparkAttentionCounts& part : by_thread) {
    total.rows += part.rows;
    total.kept += part.kept;
    total.most = std::max(total.most, part.most);
    total.empty_rows += part.empty_rows;
  }
  return total;
}

std::int64_t spark_activate(Activation activation, std::int64_t k, float* scores, const float* ups, std::int64_t rows,
                            std::int64_t neurons, ThreadPool& pool) {
  if (k < 1 || neurons < 1)
    throw InvalidArgument("[spark_activate] expected k >= 1 and neurons >= 1, got {} and {}", k, neurons);
  std::atomic<std::int64_t> above{0};
  pool.parallel_for(rows, 1, [&](long begin, long end, int) {
    std::int64_t count = 0;
    for (long r = begin; r < end; ++r) {
      float* const row = scores + r * neurons;
      const double theta = statistical_threshold({row, static_cast<std::size_t>(neurons)}, k);
      for (std::int64_t i = 0; i < neurons; ++i) {
        const double x = row[i];
        count += static_cast<std::int64_t>(x > theta);
        row[i] = x > theta ? static_cast<float>(x - theta) : 0.F;
      }
      activate_gated(activation, row, ups + r * neurons, neurons);
    }
    above.fetch_add(count, std::memory_order_relaxed);
  });
  return above.load();
}

}  // namespace torpor
