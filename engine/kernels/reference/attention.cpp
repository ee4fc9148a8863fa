#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/kernels/reference/reference.h"

namespace torpor::reference {

// out[r, h] = sum_p softmax_p(cap(scale * q[r, h] . k[p, h'])) v[p, h'],  p in the window that ends at r's own
// position, h' = the key/value head that h shares with its group.
void attention(const AttentionShape& shape, const float* q, std::int64_t queries, std::int64_t first, const float* keys,
               const float* values, std::int64_t kv_stride, float* out) {
  const std::int64_t d = shape.head_dim;
  const std::int64_t width = shape.heads * d;
  const std::int64_t group = shape.heads / shape.kv_heads;
  for (std::int64_t r = 0; r < queries; ++r) {
    const std::int64_t last = first + r;
    const std::int64_t begin = shape.window > 0 ? std::max<std::int64_t>(0, last - shape.window + 1) : 0;
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      const float* query = q + r * width + h * d;
      const std::int64_t kv = shape.head_offset(h / group);
      std::vector<double> weight(static_cast<std::size_t>(last - begin + 1));  // [keys seen]
      double top = -INFINITY;
      for (std::int64_t p = begin; p <= last; ++p) {
        double score = 0;
        for (std::int64_t i = 0; i < d; ++i)
          score += static_cast<double>(query[i]) * static_cast<double>(keys[p * kv_stride + kv + i]);
        score *= static_cast<double>(shape.scale);
        if (shape.soft_cap > 0)
          score = static_cast<double>(shape.soft_cap) * std::tanh(score / static_cast<double>(shape.soft_cap));
        weight[static_cast<std::size_t>(p - begin)] = score;
        top = std::max(top, score);
      }
      double sum = 0;
      for (double& w : weight) sum += w = std::exp(w - top);
      for (std::int64_t i = 0; i < d; ++i) {
        double mixed = 0;
        for (std::int64_t p = begin; p <= last; ++p)
          mixed += weight[static_cast<std::size_t>(p - begin)] * static_cast<double>(values[p * kv_stride + kv + i]);
        out[r * width + h * d + i] = static_cast<float>(mixed / sum);
      }
    }
  }
}

}  // namespace torpor::reference
