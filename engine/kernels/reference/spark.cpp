// One query and head after the other, in plain loops.
#include <algorithm>
#include <cmath>
#include <vector>

#include "core/activity/scores.h"
#include "engine/kernels/reference/reference.h"

namespace torpor::reference {
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

  /// keys, values: those of the head; n of them are visible, from position `from` on. Returns how many were kept.
  std::int64_t attend(const float* q, const float* keys, const float* values, std::int64_t stride, std::int64_t from,
                      std::int64_t n, float* out, bool& was_empty) {
    const int width = shape_.attention.head_dim;
    const int scored = shape_.predictor > 0 ? shape_.predictor : width;
    const float scale = shape_.attention.scale;
    const bool split = shape_.rest_offset > 0;
    const float* const rest = split ? keys + shape_.rest_offset : keys + scored;
    const std::int64_t key_stride = split ? scored : stride, rest_stride = split ? width - scored : stride;
    scores_.resize(static_cast<std::size_t>(n));
    for (std::int64_t j = 0; j < n; ++j)
      scores_[static_cast<std::size_t>(j)] = scale * dot(q, keys + (from + j) * key_stride, scored);
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
      if (shape_.predictor > 0)
        weight *= softplus(scale * dot(q + scored, rest + (from + j) * rest_stride, width - scored));
      const float* const value = values + (from + j) * stride;
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
                                     float* out) {
  const AttentionShape& a = shape.attention;
  const int group = a.heads / a.kv_heads;
  SparkAttentionCounts counts;
  Row row(shape);
  for (std::int64_t task = 0; task < queries * a.heads; ++task) {
    const std::int64_t r = task / a.heads, head = task % a.heads;
    const std::int64_t position = first + r;
    const std::int64_t from = a.window > 0 ? std::max<std::int64_t>(0, position + 1 - a.window) : 0;
    const std::int64_t at = a.head_offset(head / group);
    const std::int64_t place = (r * a.heads + head) * a.head_dim;
    bool was_empty = false;
    const std::int64_t kept =
        row.attend(q + place, keys + at, values + at, kv_stride, from, position + 1 - from, out + place, was_empty);
    ++counts.rows;
    counts.kept += kept;
    counts.most = std::max(counts.most, kept);
    counts.empty_rows += static_cast<std::int64_t>(was_empty);
  }
  return counts;
}

}  // namespace torpor::reference
