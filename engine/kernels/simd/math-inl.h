// exp, tanh and the normal distribution function for vectors of float, without branches or libm.
// The polynomials are minimax fits of our own (Remez, relative error), made for these intervals; the error named with
// each is that of the fit. Rounding adds about 1e-7. Measured over all magnitudes by the tests (kernels_math_test.cpp).

#if defined(TORPOR_KERNELS_SIMD_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TORPOR_KERNELS_SIMD_MATH_INL_H_
#undef TORPOR_KERNELS_SIMD_MATH_INL_H_
#else
#define TORPOR_KERNELS_SIMD_MATH_INL_H_
#endif

#include <hwy/highway.h>

#include <cmath>
#include <cstdint>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace torpor::simd::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// exp(x) for x <= 88.3; larger x give exp(88.3) = 2.2e38. Below -87.3 the result is 0 (no subnormals). NaN stays NaN.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V exp_bounded(D d, V x) {
  const hn::RebindToSigned<D> di;
  // Min returns its second argument for NaN on x86; the order keeps NaN a NaN. Elsewhere (NEON) it returns the number.
#if HWY_ARCH_X86
  const V bounded = hn::Min(hn::Set(d, 88.3F), x);
#else
  const V bounded = hn::IfThenElse(hn::Gt(x, hn::Set(d, 88.3F)), hn::Set(d, 88.3F), x);
#endif
  const V n = hn::Round(hn::Mul(bounded, hn::Set(d, 1.44269504F)));
  // r = x - n ln 2 in two pieces (Cody and Waite): the first product is exact.
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693359375F), bounded);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4F), r);
  // exp(r) = 1 + r + r^2 q(r) on [-ln2/2, ln2/2], 3e-9.
  V q = hn::MulAdd(hn::Set(d, 1.381459865e-3F), r, hn::Set(d, 8.36871688e-3F));
  q = hn::MulAdd(q, r, hn::Set(d, 4.166838805e-2F));
  q = hn::MulAdd(q, r, hn::Set(d, 1.666652063e-1F));
  q = hn::MulAdd(q, r, hn::Set(d, 4.999999345e-1F));
  const V p = hn::Add(hn::MulAdd(hn::Mul(r, r), q, r), hn::Set(d, 1.0F));
  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127)));
  const V result = hn::Mul(p, hn::BitCast(d, exponent));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.3F)), result);
}

/// tanh(x).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V tanh_of(D d, V x) {
  const V a = hn::Abs(x);
  // |x| < 0.55: x + x^3 q(x^2), 4e-8. The other form would cancel there.
  const V u = hn::Mul(x, x);
  V q = hn::MulAdd(hn::Set(d, 1.643758181e-2F), u, hn::Set(d, -5.267181394e-2F));
  q = hn::MulAdd(q, u, hn::Set(d, 1.332072506e-1F));
  q = hn::MulAdd(q, u, hn::Set(d, -3.333294664e-1F));
  const V small = hn::MulAdd(hn::Mul(x, u), q, x);
  const V one = hn::Set(d, 1.0F);
  const V e = exp_bounded(d, hn::Mul(a, hn::Set(d, -2.0F)));
  const V large = hn::CopySign(hn::Div(hn::Sub(one, e), hn::Add(one, e)), x);
  return hn::IfThenElse(hn::Lt(a, hn::Set(d, 0.55F)), small, large);
}

/// 1 / (1 + exp(-x)).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V sigmoid(D d, V x) {
  const V one = hn::Set(d, 1.0F);
  return hn::Div(one, hn::Add(one, exp_bounded(d, hn::Neg(x))));
}

/// The normal distribution function Phi(x) = erfc(-x / sqrt 2) / 2, accurate in the left tail too.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V normal_cdf(D d, V x) {
  // Phi(-a) = exp(-a^2/2) s g(s), s = 1 / (1 + 0.35 a): the form of Abramowitz and Stegun 7.1.26, fitted for
  // 0 <= a <= 14 (beyond, the exponential is 0 in f32), 3e-8.
  const V a = hn::Abs(x);
  const V s = hn::Div(hn::Set(d, 1.0F), hn::MulAdd(a, hn::Set(d, 0.35F), hn::Set(d, 1.0F)));
  V g = hn::MulAdd(hn::Set(d, -2.914592358e-2F), s, hn::Set(d, 1.43971664e-1F));
  g = hn::MulAdd(g, s, hn::Set(d, -2.55714182e-1F));
  g = hn::MulAdd(g, s, hn::Set(d, 1.591740748e-1F));
  g = hn::MulAdd(g, s, hn::Set(d, -2.310977441e-2F));
  g = hn::MulAdd(g, s, hn::Set(d, 1.055079777e-1F));
  g = hn::MulAdd(g, s, hn::Set(d, 1.198328744e-1F));
  g = hn::MulAdd(g, s, hn::Set(d, 1.398618687e-1F));
  g = hn::MulAdd(g, s, hn::Set(d, 1.396214044e-1F));
  // a^2 loses half a unit, which exp would magnify by a^2/2: carry the lost part along (nothing to carry without FMA).
  const V square = hn::Mul(a, a);
  const V lost = hn::MulSub(a, a, square);
  const V e = exp_bounded(d, hn::Mul(square, hn::Set(d, -0.5F)));
  const V half_lost = hn::Mul(lost, hn::Set(d, 0.5F));
  const V gauss = hn::NegMulAdd(e, half_lost, e);
  const V tail = hn::Mul(hn::Mul(gauss, s), g);
  // a = inf: 0 * (inf - inf) above; the tail is 0.
  const V left = hn::IfThenZeroElse(hn::Gt(a, hn::Set(d, 14.0F)), tail);
  return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), left, hn::Sub(hn::Set(d, 1.0F), left));
}

}  // namespace torpor::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
