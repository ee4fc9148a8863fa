#include "lab/nn/score_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lab/nn/score_rows.cpp"
#include "hwy/foreach_target.h"  // compiles this file once for each instruction set
#include "hwy/highway.h"
// After it.
#include "engine/kernels/simd/math-inl.h"
#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace torpor::lab::detail {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace ts = torpor::simd::HWY_NAMESPACE;

constexpr float kNone = -3e38F;  // in the padding: exp of it is 0

std::int64_t PlacesAbove(const float* HWY_RESTRICT x, std::int64_t n, float cut, std::int32_t* HWY_RESTRICT places) {
  const hn::CappedTag<float, kRowPadding> d;
  const hn::RebindToSigned<decltype(d)> di;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto bound = hn::Set(d, cut);
  std::int64_t count = 0, i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto above = hn::RebindMask(di, hn::Gt(hn::LoadU(d, x + i), bound));
    count += static_cast<std::int64_t>(
        hn::CompressStore(hn::Iota(di, static_cast<std::int32_t>(i)), above, di, places + count));
  }
  for (; i < n; ++i)
    if (x[i] > cut) places[count++] = static_cast<std::int32_t>(i);
  return count;
}

void Softmax(float* HWY_RESTRICT x, std::int64_t n) {
  const hn::CappedTag<float, kRowPadding> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t padded = (n + lanes - 1) / lanes * lanes;
  std::fill(x + n, x + padded, kNone);
  auto top = hn::Set(d, kNone);
  for (std::int64_t i = 0; i < padded; i += lanes) top = hn::Max(top, hn::LoadU(d, x + i));
  top = hn::MaxOfLanes(d, top);
  auto sum = hn::Zero(d);
  for (std::int64_t i = 0; i < padded; i += lanes) {
    const auto e = ts::exp_bounded(d, hn::Sub(hn::LoadU(d, x + i), top));
    sum = hn::Add(sum, e);
    hn::StoreU(e, d, x + i);
  }
  const auto scale = hn::Div(hn::Set(d, 1.0F), hn::SumOfLanes(d, sum));
  for (std::int64_t i = 0; i < padded; i += lanes) hn::StoreU(hn::Mul(hn::LoadU(d, x + i), scale), d, x + i);
}

void Softplus(float* HWY_RESTRICT x, float* HWY_RESTRICT slope, std::int64_t n) {
  const hn::CappedTag<float, kRowPadding> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t padded = (n + lanes - 1) / lanes * lanes;
  std::fill(x + n, x + padded, 0.0F);
  const auto one = hn::Set(d, 1.0F), zero = hn::Zero(d);
  for (std::int64_t i = 0; i < padded; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    const auto e = ts::exp_bounded(d, hn::Neg(hn::Abs(v)));  // exp(-|x|), of which both are made
    const auto share = hn::Div(one, hn::Add(one, e));
    hn::StoreU(hn::Add(hn::Max(v, zero), hn::Log1p(d, e)), d, x + i);
    hn::StoreU(hn::IfThenElse(hn::Ge(v, zero), share, hn::Mul(e, share)), d, slope + i);
  }
}

template <class Dd, class Df>
HWY_INLINE hn::Vec<Dd> Wide(Dd dd, Df d, const float* from) {
  return hn::PromoteTo(dd, hn::LoadU(d, from));
}

void Shrunk(const float* HWY_RESTRICT x, std::int64_t n, double theta, double offset, float* HWY_RESTRICT y) {
  const hn::ScalableTag<double> dd;
  const hn::Rebind<float, decltype(dd)> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(dd));
  const auto bound = hn::Set(dd, theta), shift = hn::Set(dd, theta - offset);
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = Wide(dd, d, x + i);
    hn::StoreU(hn::DemoteTo(d, hn::IfThenElseZero(hn::Gt(v, bound), hn::Sub(v, shift))), d, y + i);
  }
  for (; i < n; ++i) {
    const auto v = static_cast<double>(x[i]);
    y[i] = static_cast<float>(v > theta ? v - (theta - offset) : 0);
  }
}

double SumAbove(const float* HWY_RESTRICT x, const float* HWY_RESTRICT g, std::int64_t n, double theta) {
  const hn::ScalableTag<double> dd;
  const hn::Rebind<float, decltype(dd)> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(dd));
  const auto bound = hn::Set(dd, theta);
  auto s0 = hn::Zero(dd), s1 = hn::Zero(dd);
  std::int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    s0 = hn::Add(s0, hn::IfThenElseZero(hn::Gt(Wide(dd, d, x + i), bound), Wide(dd, d, g + i)));
    s1 = hn::Add(s1, hn::IfThenElseZero(hn::Gt(Wide(dd, d, x + i + lanes), bound), Wide(dd, d, g + i + lanes)));
  }
  double sum = hn::GetLane(hn::SumOfLanes(dd, hn::Add(s0, s1)));
  for (; i < n; ++i)
    if (static_cast<double>(x[i]) > theta) sum += static_cast<double>(g[i]);
  return sum;
}

void ShrinkGradient(const float* HWY_RESTRICT x, const float* HWY_RESTRICT g, std::int64_t n, double theta, double mean,
                    double constant, double slope, float* HWY_RESTRICT y) {
  const hn::ScalableTag<double> dd;
  const hn::Rebind<float, decltype(dd)> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(dd));
  const auto bound = hn::Set(dd, theta), centre = hn::Set(dd, mean), base = hn::Set(dd, constant),
             tilt = hn::Set(dd, slope);
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = Wide(dd, d, x + i);
    const auto through = hn::IfThenElseZero(hn::Gt(v, bound), Wide(dd, d, g + i));
    hn::StoreU(hn::DemoteTo(d, hn::NegMulAdd(tilt, hn::Sub(v, centre), hn::Sub(through, base))), d, y + i);
  }
  for (; i < n; ++i) {
    const auto v = static_cast<double>(x[i]);
    y[i] = static_cast<float>((v > theta ? static_cast<double>(g[i]) : 0) - constant - slope * (v - mean));
  }
}

void Line(const float* HWY_RESTRICT x, std::int64_t n, double mean, double constant, double slope,
          float* HWY_RESTRICT y) {
  const hn::ScalableTag<double> dd;
  const hn::Rebind<float, decltype(dd)> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(dd));
  const auto centre = hn::Set(dd, mean), base = hn::Set(dd, constant), tilt = hn::Set(dd, slope);
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(hn::DemoteTo(d, hn::MulAdd(tilt, hn::Sub(Wide(dd, d, x + i), centre), base)), d, y + i);
  for (; i < n; ++i) y[i] = static_cast<float>(constant + slope * (static_cast<double>(x[i]) - mean));
}

template <class Function>
HWY_INLINE void ForEach(float* HWY_RESTRICT z, float* HWY_RESTRICT slope, std::int64_t n, Function f) {
  const hn::CappedTag<float, kRowPadding> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::fill(z + n, z + (n + lanes - 1) / lanes * lanes, 0.0F);
  for (std::int64_t i = 0; i < n; i += lanes) {
    auto derivative = hn::Zero(d);
    hn::StoreU(f(d, hn::LoadU(d, z + i), derivative), d, z + i);
    hn::StoreU(derivative, d, slope + i);
  }
}

void ActivateKept(Activation activation, float* HWY_RESTRICT z, float* HWY_RESTRICT slope, std::int64_t n) {
  switch (activation) {
    case Activation::gelu_tanh:
      // With u = sqrt(2/pi) (z + 0.044715 z^3) and t = tanh u: z (1 + t) / 2; derivative (1 + t + z (1 - t^2) u') / 2.
      return ForEach(z, slope, n, [](auto d, auto x, auto& derivative) HWY_ATTR {
        const auto c = hn::Set(d, 0.7978845608F), c3 = hn::Set(d, 0.7978845608F * 0.044715F);
        const auto one = hn::Set(d, 1.0F), half = hn::Set(d, 0.5F), square = hn::Mul(x, x);
        const auto t = ts::tanh_of(d, hn::Mul(x, hn::MulAdd(c3, square, c)));
        const auto inner = hn::MulAdd(hn::Mul(hn::Set(d, 3.0F), c3), square, c);
        const auto bent = hn::Mul(hn::Mul(x, inner), hn::NegMulAdd(t, t, one));
        derivative = hn::Mul(half, hn::Add(hn::Add(one, t), bent));
        return hn::Mul(hn::Mul(half, x), hn::Add(one, t));
      });
    case Activation::gelu:
      return ForEach(z, slope, n, [](auto d, auto x, auto& derivative) HWY_ATTR {
        const auto phi = ts::normal_cdf(d, x);
        const auto density =
            hn::Mul(hn::Set(d, 0.3989422804F), ts::exp_bounded(d, hn::Mul(hn::Mul(x, x), hn::Set(d, -0.5F))));
        derivative = hn::MulAdd(x, density, phi);
        return hn::Mul(x, phi);
      });
    case Activation::silu:
      return ForEach(z, slope, n, [](auto d, auto x, auto& derivative) HWY_ATTR {
        const auto one = hn::Set(d, 1.0F), s = ts::sigmoid(d, x);
        derivative = hn::Mul(s, hn::MulAdd(x, hn::Sub(one, s), one));
        return hn::Mul(x, s);
      });
    case Activation::relu:
      return ForEach(z, slope, n, [](auto d, auto x, auto& derivative) HWY_ATTR {
        derivative = hn::Set(d, 1.0F);
        return x;
      });
    case Activation::relu2:
      return ForEach(z, slope, n, [](auto /*d*/, auto x, auto& derivative) HWY_ATTR {
        derivative = hn::Add(x, x);
        return hn::Mul(x, x);
      });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace torpor::lab::detail
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace torpor::lab::detail {

HWY_EXPORT(PlacesAbove);
HWY_EXPORT(Softmax);
HWY_EXPORT(Softplus);
HWY_EXPORT(Shrunk);
HWY_EXPORT(SumAbove);
HWY_EXPORT(ShrinkGradient);
HWY_EXPORT(Line);
HWY_EXPORT(ActivateKept);

namespace {

/// The largest float that is not above theta: x > theta exactly where x > it.
float cut_at(double theta) {
  const auto nearest = static_cast<float>(theta);
  return static_cast<double>(nearest) > theta ? std::nextafter(nearest, -std::numeric_limits<float>::infinity())
                                              : nearest;
}

}  // namespace

ScoreMoments moments_of(const float* x, std::int64_t n) {
  return score_moments({x, static_cast<std::size_t>(n)});
}

ScoreMoments moments_of(const double* x, std::int64_t n) {
  double sum = 0, squares = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += x[i];
  const double mean = sum / static_cast<double>(n);
  for (std::int64_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
  return {mean, n > 1 ? std::sqrt(squares / static_cast<double>(n - 1)) : 0};
}

double threshold_quantile(std::int64_t n, std::int64_t k) {
  if (k >= n) return -std::numeric_limits<double>::infinity();
  return normal_quantile(1 - static_cast<double>(k) / static_cast<double>(n));
}

std::int64_t places_above(const float* x, std::int64_t n, double theta, std::int32_t* places) {
  return HWY_DYNAMIC_DISPATCH(PlacesAbove)(x, n, cut_at(theta), places);
}

std::int64_t places_above(const double* x, std::int64_t n, double theta, std::int32_t* places) {
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < n; ++i)
    if (x[i] > theta) places[count++] = static_cast<std::int32_t>(i);
  return count;
}

void softmax_in_place(float* x, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(Softmax)(x, n);
}

void softmax_in_place(double* x, std::int64_t n) {
  const double top = *std::max_element(x, x + n);
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += x[i] = std::exp(x[i] - top);
  for (std::int64_t i = 0; i < n; ++i) x[i] /= sum;
}

void softplus_in_place(float* x, float* slope, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(Softplus)(x, slope, n);
}

void softplus_in_place(double* x, double* slope, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    slope[i] = 1 / (1 + std::exp(-x[i]));
    x[i] = std::max(x[i], 0.0) + std::log1p(std::exp(-std::fabs(x[i])));
  }
}

void shrink(const float* x, std::int64_t n, double theta, double offset, float* y) {
  HWY_DYNAMIC_DISPATCH(Shrunk)(x, n, theta, offset, y);
}

double sum_above(const float* x, const float* g, std::int64_t n, double theta) {
  return HWY_DYNAMIC_DISPATCH(SumAbove)(x, g, n, theta);
}

void shrink_gradient(const float* x, const float* g, std::int64_t n, double theta, double mean, double constant,
                     double slope, float* y) {
  HWY_DYNAMIC_DISPATCH(ShrinkGradient)(x, g, n, theta, mean, constant, slope, y);
}

void line(const float* x, std::int64_t n, double mean, double constant, double slope, float* y) {
  HWY_DYNAMIC_DISPATCH(Line)(x, n, mean, constant, slope, y);
}

void line(const double* x, std::int64_t n, double mean, double constant, double slope, double* y) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = constant + slope * (x[i] - mean);
}

void activate_in_place(Activation activation, float* z, float* slope, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(ActivateKept)(activation, z, slope, n);
}

void activate_in_place(Activation activation, double* z, double* slope, std::int64_t n) {
  const double c = std::sqrt(2 / std::numbers::pi);
  for (std::int64_t i = 0; i < n; ++i) {
    const double x = z[i];
    switch (activation) {
      case Activation::gelu_tanh: {
        const double t = std::tanh(c * (x + 0.044715 * x * x * x));
        z[i] = 0.5 * x * (1 + t);
        slope[i] = 0.5 * (1 + t + x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x));
        break;
      }
      case Activation::gelu: {
        const double phi = 0.5 * std::erfc(-x / std::numbers::sqrt2);
        z[i] = x * phi;
        slope[i] = phi + x * std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi);
        break;
      }
      case Activation::silu: {
        const double s = 1 / (1 + std::exp(-x));
        z[i] = x * s;
        slope[i] = s * (1 + x * (1 - s));
        break;
      }
      case Activation::relu:
        slope[i] = 1;
        break;
      case Activation::relu2:
        z[i] = x * x;
        slope[i] = 2 * x;
        break;
    }
  }
}

void shrink(const double* x, std::int64_t n, double theta, double offset, double* y) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = x[i] > theta ? x[i] - (theta - offset) : 0;
}

double sum_above(const double* x, const double* g, std::int64_t n, double theta) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += x[i] > theta ? g[i] : 0;
  return sum;
}

void shrink_gradient(const double* x, const double* g, std::int64_t n, double theta, double mean, double constant,
                     double slope, double* y) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = (x[i] > theta ? g[i] : 0) - constant - slope * (x[i] - mean);
}

template <typename T>
void KeptKeys<T>::choose(const T* scores, const T* others, std::int64_t n, double quantile) {
  if (const auto room = static_cast<std::size_t>(n + kRowPadding); places_.size() < room) {
    places_.resize(room);
    shares_.resize(room);
    factors_.resize(room);
    slopes_.resize(room);
  }
  double theta = quantile;
  if (std::isfinite(quantile)) {
    const ScoreMoments m = moments_of(scores, n);
    theta = m.mean + m.deviation * quantile;
  }
  size_ = places_above(scores, n, theta, places_.data());
  empty_ = size_ == 0;
  if (empty_) {
    places_[0] = static_cast<std::int32_t>(std::max_element(scores, scores + n) - scores);
    size_ = 1;
  }
  const auto gather = [&](const T* from, std::vector<T>& to) {
    for (std::int64_t i = 0; i < size_; ++i) to[static_cast<std::size_t>(i)] = from[place(i)];
  };
  gather(scores, shares_);
  softmax_in_place(shares_.data(), size_);
  has_others_ = others != nullptr;
  if (!has_others_) return;
  gather(others, factors_);
  softplus_in_place(factors_.data(), slopes_.data(), size_);
}

template class KeptKeys<float>;
template class KeptKeys<double>;

}  // namespace torpor::lab::detail
#endif  // HWY_ONCE
