#include <algorithm>
#include <cmath>

#include "engine/kernels/simd/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/simd/norms.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace torpor::simd::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

/// Sum of f(x[i]); f must give 0 for whatever `pad` is. Four running sums: their rounding errors stay apart.
template <class F>
HWY_INLINE float reduce(const float* x, std::int64_t n, float pad, const F& f) {
  const D d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  V s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    s0 = f(hn::LoadU(d, x + i), s0);
    s1 = f(hn::LoadU(d, x + i + lanes), s1);
    s2 = f(hn::LoadU(d, x + i + 2 * lanes), s2);
    s3 = f(hn::LoadU(d, x + i + 3 * lanes), s3);
  }
  for (; i + lanes <= n; i += lanes) s0 = f(hn::LoadU(d, x + i), s0);
  if (i < n) {
    HWY_ALIGN float rest[HWY_MAX_BYTES / sizeof(float)];
    std::fill(rest, rest + lanes, pad);
    std::copy(x + i, x + n, rest);
    s1 = f(hn::Load(d, rest), s1);
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
}

/// y = (x - mean) * scale * (weight + offset) + bias
HWY_INLINE void scale_row(const float* x, std::int64_t n, float mean, float scale, const float* weight, float offset,
                          const float* bias, float* y) {
  const D d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const V m = hn::Set(d, mean), s = hn::Set(d, scale), o = hn::Set(d, offset);
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const V gain = hn::Add(hn::LoadU(d, weight + i), o);
    const V unit = hn::Mul(hn::Sub(hn::LoadU(d, x + i), m), s);
    const V shift = bias == nullptr ? hn::Zero(d) : hn::LoadU(d, bias + i);
    hn::StoreU(hn::MulAdd(unit, gain, shift), d, y + i);
  }
  for (; i < n; ++i) y[i] = (x[i] - mean) * scale * (weight[i] + offset) + (bias == nullptr ? 0.0F : bias[i]);
}

void rms_norm_any(const float* x, std::int64_t rows, const float* weight, std::int64_t width, float offset, float eps,
                  float* y) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* row = x + r * width;
    const float squares = reduce(row, width, 0.0F, [](V v, V sum) HWY_ATTR { return hn::MulAdd(v, v, sum); });
    const double mean = static_cast<double>(squares) / static_cast<double>(width);
    const auto scale = static_cast<float>(1 / std::sqrt(mean + static_cast<double>(eps)));
    scale_row(row, width, 0.0F, scale, weight, offset, nullptr, y + r * width);
  }
}

void layer_norm_any(const float* x, std::int64_t rows, const float* weight, std::int64_t width, float offset,
                    const float* bias, float eps, float* y) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* row = x + r * width;
    const float sum = reduce(row, width, 0.0F, [](V v, V s) HWY_ATTR { return hn::Add(s, v); });
    const float mean = static_cast<float>(static_cast<double>(sum) / static_cast<double>(width));
    // Two passes: the one-pass form loses everything when the mean is large against the deviation.
    const V m = hn::Set(D(), mean);
    const float squares = reduce(row, width, mean, [m](V v, V s) HWY_ATTR {
      const V c = hn::Sub(v, m);
      return hn::MulAdd(c, c, s);
    });
    const double variance = static_cast<double>(squares) / static_cast<double>(width);
    const auto scale = static_cast<float>(1 / std::sqrt(variance + static_cast<double>(eps)));
    scale_row(row, width, mean, scale, weight, offset, bias, y + r * width);
  }
}

}  // namespace
}  // namespace torpor::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace torpor::simd {

HWY_EXPORT(rms_norm_any);
HWY_EXPORT(layer_norm_any);

void rms_norm(const float* x, std::int64_t rows, std::span<const float> weight, float weight_offset, float eps,
              float* y) {
  HWY_DYNAMIC_DISPATCH(rms_norm_any)
  (x, rows, weight.data(), static_cast<std::int64_t>(weight.size()), weight_offset, eps, y);
}

void layer_norm(const float* x, std::int64_t rows, std::span<const float> weight, float weight_offset,
                std::span<const float> bias, float eps, float* y) {
  HWY_DYNAMIC_DISPATCH(layer_norm_any)
  (x, rows, weight.data(), static_cast<std::int64_t>(weight.size()), weight_offset,
   bias.empty() ? nullptr : bias.data(), eps, y);
}

}  // namespace torpor::simd
#endif
