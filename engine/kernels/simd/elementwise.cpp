#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/kernels/simd/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/simd/elementwise.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "engine/kernels/simd/activation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace torpor::simd::HWY_NAMESPACE {
namespace {

void activate_elements(Activation activation, float* x, const float* up, std::int64_t n) {
  activate_any(activation, x, up, n);
}

void add_any(float* x, const float* y, std::int64_t n) {
  map(x, y, n, [](D, V a, V b) HWY_ATTR { return hn::Add(a, b); });
}

void soft_cap_any(float* x, std::int64_t n, float cap) {
  const float inverse = 1 / cap;
  map(x, nullptr, n, [cap, inverse](D d, V a, V) HWY_ATTR {
    return hn::Mul(hn::Set(d, cap), tanh_of(d, hn::Mul(a, hn::Set(d, inverse))));
  });
}

float maximum(const float* x, std::int64_t n) {
  const D d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  V top = hn::Set(d, -std::numeric_limits<float>::infinity());
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) top = hn::Max(top, hn::LoadU(d, x + i));
  float result = hn::GetLane(hn::MaxOfLanes(d, top));
  for (; i < n; ++i) result = std::max(result, x[i]);
  return result;
}

/// Sum of exp(x - top), added up in double every 32 vectors; the exponentials are stored to `out` unless it is null.
double sum_of_exp(const float* x, std::int64_t n, float top, float* out) {
  const D d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const V shift = hn::Set(d, top);
  double sum = 0;
  std::int64_t i = 0;
  while (i + lanes <= n) {
    // Few enough additions in f32 that their rounding stays below that of exp.
    const std::int64_t end = std::min(n - n % lanes, i + 32 * lanes);
    V partial = hn::Zero(d);
    for (; i < end; i += lanes) {
      const V e = exp_bounded(d, hn::Sub(hn::LoadU(d, x + i), shift));
      if (out != nullptr) hn::StoreU(e, d, out + i);
      partial = hn::Add(partial, e);
    }
    sum += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, partial)));
  }
  if (i < n) {
    HWY_ALIGN float rest[HWY_MAX_BYTES / sizeof(float)];
    std::fill(rest, rest + lanes, -std::numeric_limits<float>::infinity());
    std::copy(x + i, x + n, rest);
    const V e = exp_bounded(d, hn::Sub(hn::Load(d, rest), shift));
    hn::Store(e, d, rest);
    if (out != nullptr) std::copy(rest, rest + (n - i), out + i);
    sum += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, e)));
  }
  return sum;
}

void softmax_any(float* x, std::int64_t n) {
  if (n <= 0) return;
  const double sum = sum_of_exp(x, n, maximum(x, n), x);
  const auto scale = static_cast<float>(1 / sum);
  map(x, nullptr, n, [scale](D d, V a, V) HWY_ATTR { return hn::Mul(a, hn::Set(d, scale)); });
}

double log_sum_exp_any(const float* x, std::int64_t n) {
  const float top = maximum(x, n);
  // All -inf (or nothing): -inf. A +inf wins. Neither may reach inf - inf. NaN goes through the sum.
  if (top == -std::numeric_limits<float>::infinity() && std::none_of(x, x + n, [](float v) { return std::isnan(v); }))
    return static_cast<double>(top);
  if (top == std::numeric_limits<float>::infinity()) return static_cast<double>(top);
  return static_cast<double>(top) + std::log(sum_of_exp(x, n, top, nullptr));
}

}  // namespace
}  // namespace torpor::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace torpor::simd {

HWY_EXPORT(activate_elements);
HWY_EXPORT(add_any);
HWY_EXPORT(soft_cap_any);
HWY_EXPORT(softmax_any);
HWY_EXPORT(log_sum_exp_any);

void activate(Activation activation, float* x, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(activate_elements)(activation, x, nullptr, n);
}
void activate_gated(Activation activation, float* gate, const float* up, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(activate_elements)(activation, gate, up, n);
}
void add(float* x, const float* y, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(add_any)(x, y, n);
}
void soft_cap(float* x, std::int64_t n, float cap) {
  HWY_DYNAMIC_DISPATCH(soft_cap_any)(x, n, cap);
}
void softmax(float* x, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(softmax_any)(x, n);
}
double log_sum_exp(const float* x, std::int64_t n) {
  return HWY_DYNAMIC_DISPATCH(log_sum_exp_any)(x, n);
}

}  // namespace torpor::simd
#endif
