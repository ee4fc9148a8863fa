// The activation functions on arrays of float, for the files that compute them: elementwise.cpp, and sparse.cpp for
// neurons whose activation is computed where their rows are read.

#if defined(TORPOR_KERNELS_SIMD_ACTIVATION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TORPOR_KERNELS_SIMD_ACTIVATION_INL_H_
#undef TORPOR_KERNELS_SIMD_ACTIVATION_INL_H_
#else
#define TORPOR_KERNELS_SIMD_ACTIVATION_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

#include "engine/kernels/dense.h"
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

/// x = f(x), or f(x) up where there is an `up`.
HWY_INLINE void activate_any(Activation activation, float* x, const float* up, std::int64_t n) {
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

}  // namespace
}  // namespace torpor::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
