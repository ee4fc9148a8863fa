#include "lab/nn/norm_rows.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lab/nn/norm_rows.cpp"
#include "hwy/foreach_target.h"  // compiles this file once for each instruction set
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace torpor::lab::detail {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

float NormaliseRow(const float* HWY_RESTRICT x, const float* HWY_RESTRICT weight, float offset, std::int64_t n,
                   double eps, float* HWY_RESTRICT y) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto sum = hn::Zero(d), more = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const auto a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + i + lanes);
    sum = hn::MulAdd(a, a, sum);
    more = hn::MulAdd(b, b, more);
  }
  double squares = static_cast<double>(hn::GetLane(hn::SumOfLanes(d, hn::Add(sum, more))));
  for (; i < n; ++i) squares += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  const auto r = static_cast<float>(1 / std::sqrt(squares / static_cast<double>(n) + eps));
  const auto scale = hn::Set(d, r), added = hn::Set(d, offset);
  for (i = 0; i + lanes <= n; i += lanes)
    hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, x + i), scale), hn::Add(hn::LoadU(d, weight + i), added)), d, y + i);
  for (; i < n; ++i) y[i] = x[i] * r * (weight[i] + offset);
  return r;
}

void NormaliseRowGradient(const float* HWY_RESTRICT x, const float* HWY_RESTRICT weight, float offset,
                          const float* HWY_RESTRICT g, float r, std::int64_t n, float* HWY_RESTRICT dx,
                          float* HWY_RESTRICT dweight) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto scale = hn::Set(d, r), added = hn::Set(d, offset);
  auto sum = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto gx = hn::Mul(hn::LoadU(d, g + i), hn::LoadU(d, x + i));
    sum = hn::MulAdd(gx, hn::Add(hn::LoadU(d, weight + i), added), sum);
    hn::StoreU(hn::MulAdd(gx, scale, hn::LoadU(d, dweight + i)), d, dweight + i);
  }
  double along = static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum)));
  for (; i < n; ++i) {
    along += static_cast<double>(g[i] * x[i]) * static_cast<double>(weight[i] + offset);
    dweight[i] += g[i] * x[i] * r;
  }
  const auto back = static_cast<float>(along * r * r * r / static_cast<double>(n));
  const auto part = hn::Set(d, back);
  for (i = 0; i + lanes <= n; i += lanes) {
    const auto straight = hn::Mul(hn::Mul(hn::LoadU(d, g + i), hn::Add(hn::LoadU(d, weight + i), added)), scale);
    hn::StoreU(hn::NegMulAdd(hn::LoadU(d, x + i), part, straight), d, dx + i);
  }
  for (; i < n; ++i) dx[i] = g[i] * (weight[i] + offset) * r - x[i] * back;
}

}  // namespace HWY_NAMESPACE
}  // namespace torpor::lab::detail
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace torpor::lab::detail {

HWY_EXPORT(NormaliseRow);
HWY_EXPORT(NormaliseRowGradient);

float normalise_row(const float* x, const float* weight, float offset, std::int64_t n, double eps, float* y) {
  return HWY_DYNAMIC_DISPATCH(NormaliseRow)(x, weight, offset, n, eps, y);
}

double normalise_row(const double* x, const double* weight, double offset, std::int64_t n, double eps, double* y) {
  double squares = 0;
  for (std::int64_t i = 0; i < n; ++i) squares += x[i] * x[i];
  const double r = 1 / std::sqrt(squares / static_cast<double>(n) + eps);
  for (std::int64_t i = 0; i < n; ++i) y[i] = x[i] * r * (weight[i] + offset);
  return r;
}

void normalise_row_gradient(const float* x, const float* weight, float offset, const float* g, float r, std::int64_t n,
                            float* dx, float* dweight) {
  HWY_DYNAMIC_DISPATCH(NormaliseRowGradient)(x, weight, offset, g, r, n, dx, dweight);
}

void normalise_row_gradient(const double* x, const double* weight, double offset, const double* g, double r,
                            std::int64_t n, double* dx, double* dweight) {
  double along = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    along += g[i] * x[i] * (weight[i] + offset);
    dweight[i] += g[i] * x[i] * r;
  }
  const double back = along * r * r * r / static_cast<double>(n);
  for (std::int64_t i = 0; i < n; ++i) dx[i] = g[i] * (weight[i] + offset) * r - x[i] * back;
}

}  // namespace torpor::lab::detail
#endif  // HWY_ONCE
