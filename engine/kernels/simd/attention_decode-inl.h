// Attention of few query rows (decode): keys and values are read from memory once, in order; dot products along the
// head dimension; softmax online over tiles of keys.

#if defined(TORPOR_KERNELS_SIMD_ATTENTION_DECODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TORPOR_KERNELS_SIMD_ATTENTION_DECODE_INL_H_
#undef TORPOR_KERNELS_SIMD_ATTENTION_DECODE_INL_H_
#else
#define TORPOR_KERNELS_SIMD_ATTENTION_DECODE_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "engine/kernels/simd/attention_work.h"
#include "engine/kernels/simd/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace torpor::simd::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// sum_i a[i] b[i]; both padded with zeros up to a whole vector is not needed: the rest is added one by one.
HWY_INLINE float dot(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, std::int64_t n) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    s0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), s0);
    s1 = hn::MulAdd(hn::LoadU(d, a + i + lanes), hn::LoadU(d, b + i + lanes), s1);
  }
  if (i + lanes <= n) {
    s0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), s0);
    i += lanes;
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)));
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

/// out[m, 0..dim) += sum_k weight[m, k] * values[k, 0..dim), for kRows rows m.
template <int kRows>
HWY_INLINE void mix_values(const float* weight, std::int64_t weight_stride, const float* values, std::int64_t stride,
                           std::int64_t keys, std::int64_t dim, float* out, std::int64_t out_stride) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + 2 * lanes <= dim; i += 2 * lanes) {
    V s[kRows][2];
    for (int m = 0; m < kRows; ++m) {
      s[m][0] = hn::LoadU(d, out + m * out_stride + i);
      s[m][1] = hn::LoadU(d, out + m * out_stride + i + lanes);
    }
    for (std::int64_t k = 0; k < keys; ++k) {
      const V v0 = hn::LoadU(d, values + k * stride + i);
      const V v1 = hn::LoadU(d, values + k * stride + i + lanes);
      for (int m = 0; m < kRows; ++m) {
        const V w = hn::Set(d, weight[m * weight_stride + k]);
        s[m][0] = hn::MulAdd(w, v0, s[m][0]);
        s[m][1] = hn::MulAdd(w, v1, s[m][1]);
      }
    }
    for (int m = 0; m < kRows; ++m) {
      hn::StoreU(s[m][0], d, out + m * out_stride + i);
      hn::StoreU(s[m][1], d, out + m * out_stride + i + lanes);
    }
  }
  for (; i < dim; ++i)
    for (int m = 0; m < kRows; ++m) {
      float s = out[m * out_stride + i];
      for (std::int64_t k = 0; k < keys; ++k) s += weight[m * weight_stride + k] * values[k * stride + i];
      out[m * out_stride + i] = s;
    }
}

/// All query rows of one key/value head. Rows m = query * group + head in group. scratch: [2, kKeysOfFew, head_dim]
/// where the cache is quantised.
inline constexpr std::int64_t kKeysOfFew = 64;  // a tile's values: 16 to 32 KB, still in L1 or L2 when they are mixed
inline void attend_few(const AttentionWork& work, std::int64_t kv_head, float* scratch) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t dim = work.shape.head_dim, group = work.group(), rows = work.queries * group;
  constexpr std::int64_t kKeys = kKeysOfFew;

  float top[AttentionWork::kFewRows], sum[AttentionWork::kFewRows];
  HWY_ALIGN float score[AttentionWork::kFewRows][kKeys];
  std::fill(top, top + rows, kNoScore);
  std::fill(sum, sum + rows, 0.0F);
  for (std::int64_t m = 0; m < rows; ++m) std::fill_n(work.out_row(m, kv_head), dim, 0.0F);

  const std::int64_t end = work.first + work.queries;
  for (std::int64_t tile = work.first_key(0); tile < end; tile += kKeys) {
    const std::int64_t count = std::min(kKeys, end - tile);
    const float* const tile_keys = work.key_rows(kv_head, tile, count, scratch);
    const float* const tile_values =
        work.value_rows(kv_head, tile, count, work.quantised() ? scratch + kKeys * dim : nullptr);
    for (std::int64_t k = 0; k < count; ++k) {
      const float* key = tile_keys + k * work.kv_stride;
      for (std::int64_t i = 0; !work.quantised() && i < dim; i += 16) {  // 64-byte lines
        hwy::Prefetch(key + 8 * work.kv_stride + i);
        hwy::Prefetch(tile_values + k * work.kv_stride + i);
      }
      for (std::int64_t m = 0; m < rows; ++m) {
        const std::int64_t query = m / group;
        const bool seen = tile + k <= work.first + query && tile + k >= work.first_key(query);
        score[m][k] = seen ? dot(work.query_row(m, kv_head), key, dim) * work.shape.scale : -INFINITY;
      }
    }
    for (std::int64_t m = 0; m < rows; ++m) {
      std::fill(score[m] + count, score[m] + kKeys, -INFINITY);
      if (work.shape.soft_cap > 0) {
        const auto cap = hn::Set(d, work.shape.soft_cap), inverse = hn::Set(d, 1 / work.shape.soft_cap);
        for (std::int64_t k = 0; k < kKeys; k += lanes) {
          const auto s = hn::Load(d, score[m] + k);
          const auto capped = hn::Mul(cap, tanh_of(d, hn::Mul(s, inverse)));
          // What is not seen stays unseen: tanh would make it a finite number.
          const auto unseen = hn::Eq(s, hn::Set(d, -INFINITY));
          hn::Store(hn::IfThenElse(unseen, s, capped), d, score[m] + k);
        }
      }
      auto largest = hn::Set(d, top[m]);
      for (std::int64_t k = 0; k < kKeys; k += lanes) largest = hn::Max(largest, hn::Load(d, score[m] + k));
      const float new_top = hn::GetLane(hn::MaxOfLanes(d, largest));
      const float shrink = std::exp(top[m] - new_top);
      auto partial = hn::Zero(d);
      for (std::int64_t k = 0; k < kKeys; k += lanes) {
        const auto e = exp_bounded(d, hn::Sub(hn::Load(d, score[m] + k), hn::Set(d, new_top)));
        hn::Store(e, d, score[m] + k);
        partial = hn::Add(partial, e);
      }
      sum[m] = sum[m] * shrink + hn::GetLane(hn::SumOfLanes(d, partial));
      top[m] = new_top;
      if (shrink != 1) {
        float* out = work.out_row(m, kv_head);
        for (std::int64_t i = 0; i < dim; ++i) out[i] *= shrink;
      }
    }
    std::int64_t m = 0;
    // Rows that lie next to each other in the output share each value that is loaded.
    while (m < rows) {
      const std::int64_t together = std::min<std::int64_t>(group - m % group, 4);
      float* out = work.out_row(m, kv_head);
      if (together == 4)
        mix_values<4>(score[m], kKeys, tile_values, work.kv_stride, count, dim, out, dim);
      else if (together == 3)
        mix_values<3>(score[m], kKeys, tile_values, work.kv_stride, count, dim, out, dim);
      else if (together == 2)
        mix_values<2>(score[m], kKeys, tile_values, work.kv_stride, count, dim, out, dim);
      else
        mix_values<1>(score[m], kKeys, tile_values, work.kv_stride, count, dim, out, dim);
      m += together;
    }
  }
  for (std::int64_t m = 0; m < rows; ++m) {
    float* out = work.out_row(m, kv_head);
    const float scale = 1 / sum[m];
    for (std::int64_t i = 0; i < dim; ++i) out[i] *= scale;
  }
}

}  // namespace torpor::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
