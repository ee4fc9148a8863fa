#include "lab/recycle/adam_row.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lab/recycle/adam_row.cpp"
#include "hwy/foreach_target.h"  // compiles this file once for each instruction set
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace torpor::lab::detail {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void AdamRow(const AdamStep& adam, std::int64_t n, float row_step, float row_scale,
             const float* HWY_RESTRICT column_step, const float* HWY_RESTRICT column_scale, const float* HWY_RESTRICT g,
             float* HWY_RESTRICT w, float* HWY_RESTRICT m, float* HWY_RESTRICT v) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto beta1 = hn::Set(d, adam.beta1), beta2 = hn::Set(d, adam.beta2), eps = hn::Set(d, adam.eps);
  const auto new1 = hn::Set(d, 1 - adam.beta1), new2 = hn::Set(d, 1 - adam.beta2),
             decay = hn::Set(d, adam.weight_decay), kept = hn::Set(d, adam.kept);
  const auto step_here = hn::Set(d, row_step), scale_here = hn::Set(d, row_scale);
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto weight = hn::LoadU(d, w + i);
    const auto gradient = hn::MulAdd(decay, weight, hn::LoadU(d, g + i));
    const auto first = hn::MulAdd(new1, gradient, hn::Mul(beta1, hn::LoadU(d, m + i)));
    const auto second = hn::MulAdd(hn::Mul(new2, gradient), gradient, hn::Mul(beta2, hn::LoadU(d, v + i)));
    const auto step = hn::Max(step_here, hn::LoadU(d, column_step + i));
    const auto scale = hn::Max(scale_here, hn::LoadU(d, column_scale + i));
    hn::StoreU(first, d, m + i);
    hn::StoreU(second, d, v + i);
    hn::StoreU(hn::MulSub(kept, weight, hn::Div(hn::Mul(step, first), hn::MulAdd(hn::Sqrt(second), scale, eps))), d,
               w + i);
  }
  for (; i < n; ++i) {
    const float gradient = g[i] + adam.weight_decay * w[i];
    m[i] = adam.beta1 * m[i] + (1 - adam.beta1) * gradient;
    v[i] = adam.beta2 * v[i] + (1 - adam.beta2) * gradient * gradient;
    w[i] = adam.kept * w[i] - std::max(row_step, column_step[i]) * m[i] /
                                  (std::sqrt(v[i]) * std::max(row_scale, column_scale[i]) + adam.eps);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace torpor::lab::detail
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace torpor::lab::detail {

HWY_EXPORT(AdamRow);

void adam_row(const AdamStep& adam, std::int64_t n, float row_step, float row_scale, const float* column_step,
              const float* column_scale, const float* g, float* w, float* m, float* v) {
  HWY_DYNAMIC_DISPATCH(AdamRow)(adam, n, row_step, row_scale, column_step, column_scale, g, w, m, v);
}

}  // namespace torpor::lab::detail
#endif
