#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/kernels/simd/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/simd/elementwise.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "engine/kernels/simd/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace torpor::simd::HWY_NAMESPACE {
namespace {

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

/// x[i] = f(x[i], y[i]) with y optional; the remainder goes through a padded copy, so that every element sees the same
/// vector code and gives the same bits wherever it lies.
template <class F>
HWY_INLINE void map(float* x, const float* y, std::int64_t n, const F& f) {
  const D d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(f(d, hn::LoadU(d, x + i), hn::LoadU(d, (y == nullptr ? x : y) + i)), d, x + i);
  if (i == n) return;
  HWY_ALIGN float a[HWY_MAX_BYTES / sizeof(float)] = {};
  HWY_ALIGN float b[HWY_MAX_BYTES / sizeof(float)] = {};
  std::copy(x + i, x + n, a);
  if (y != nullptr) std::copy(y + i, y + n, b);
  hn::Store(f(d, hn::Load(d, a), hn::Load(d, b)), d, a);
  std::copy(a, a + (n - i), x + i);
}

/// x / (1 + exp(u)), 0 where exp(u) is beyond what exp_bounded gives.
HWY_INLINE V over_one_plus_exp(D d, V x, V u) {
  const V y = hn::Div(x, hn::Add(hn::Set(d, 1.0F), exp_bounded(d, u)));
  return hn::IfThenZeroElse(hn::Gt(u, hn::Set(d, 88.3F)), y);
}

struct Silu {
  HWY_INLINE V operator()(D d, V x) const { return over_one_plus_exp(d, x, hn::Neg(x)); }
};
struct Gelu {
  HWY_INLINE V operator()(D d, V x) const { return hn::Mul(x, normal_cdf(d, x)); }
};
struct GeluTanh {
  // x/2 (1 + tanh u) = x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3)
  HWY_INLINE V operator()(D d, V x) const {
    const V cube = hn::Mul(hn::Mul(x, x), x);
    const V minus_2u = hn::Mul(hn::MulAdd(cube, hn::Set(d, 0.044715F), x), hn::Set(d, -1.5957691216F));
    return over_one_plus_exp(d, x, minus_2u);
  }
};
struct Relu {
  // Not Max: NaN must stay NaN.
  HWY_INLINE V operator()(D d, V x) const { return hn::IfThenZeroElse(hn::Lt(x, hn::Zero(d)), x); }
};
struct Relu2 {
  HWY_INLINE V operator()(D d, V x) const {
    const V y = hn::IfThenZeroElse(hn::Lt(x, hn::Zero(d)), x);
    return hn::Mul(y, y);
  }
};

template <class F>
HWY_INLINE void apply(const F& f, float* x, const float* up, std::int64_t n) {
  if (up == nullptr)
    map(x, nullptr, n, [&f](D d, V a, V) HWY_ATTR { return f(d, a); });
  else
    map(x, up, n, [&f](D d, V a, V b) HWY_ATTR { return hn::Mul(f(d, a), b); });
}

void activate_any(Activation activation, float* x, const float* up, std::int64_t n) {
  switch (activation) {
    case Activation::silu:
      return apply(Silu(), x, up, n);
    case Activation::gelu:
      return apply(Gelu(), x, up, n);
    case Activation::gelu_tanh:
      return apply(GeluTanh(), x, up, n);
    case Activation::relu:
      return apply(Relu(), x, up, n);
    case Activation::relu2:
      return apply(Relu2(), x, up, n);
  }
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

HWY_EXPORT(activate_any);
HWY_EXPORT(add_any);
HWY_EXPORT(soft_cap_any);
HWY_EXPORT(softmax_any);
HWY_EXPORT(log_sum_exp_any);

void activate(Activation activation, float* x, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(activate_any)(activation, x, nullptr, n);
}
void activate_gated(Activation activation, float* gate, const float* up, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(activate_any)(activation, gate, up, n);
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
