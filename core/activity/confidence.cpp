#include "core/activity/confidence.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/activity/scores.h"
#include "core/base/error.h"

namespace torpor {

namespace {

// Regularised incomplete beta function I_x(a, b) by its continued fraction (modified Lentz; DLMF 8.17.22).
double incomplete_beta(double a, double b, double x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - incomplete_beta(b, a, 1 - x);
  const double front =
      std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x)) / a;
  constexpr double kTiny = 1e-300;
  double c = 1, d = 1 - (a + b) * x / (a + 1);
  d = 1 / (std::fabs(d) < kTiny ? kTiny : d);
  double f = d;
  for (int m = 1; m < 500; ++m) {
    for (int odd = 0; odd < 2; ++odd) {
      const double k = odd == 0 ? m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
                                : -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
      d = 1 + k * d;
      d = 1 / (std::fabs(d) < kTiny ? kTiny : d);
      c = 1 + k / c;
      if (std::fabs(c) < kTiny) c = kTiny;
      f *= c * d;
    }
    if (std::fabs(c * d - 1) < 1e-15) break;
  }
  return front * f;
}

// P(T > t) for t > 0.
double student_t_tail(double t, double freedom) {
  return 0.5 * incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t));
}

}  // namespace

double student_t_quantile(double p, double freedom) {
  if (!(p > 0 && p < 1) || !(freedom >= 1))
    throw InvalidArgument("[student_t_quantile] expected 0 < p < 1 and freedom >= 1, got {} and {}", p, freedom);
  if (p == 0.5) return 0;
  if (p < 0.5) return -student_t_quantile(1 - p, freedom);
  if (freedom > 1e7) return normal_quantile(p);  // they agree to 1e-7 there
  const double tail = 1 - p;
  double low = 0, high = 1;
  while (student_t_tail(high, freedom) > tail) {
    low = high;
    high *= 2;
    if (high > 1e300) return high;
  }
  for (int step = 0; step < 200 && high - low > 1e-14 * high; ++step) {
    const double middle = 0.5 * (low + high);
    (student_t_tail(middle, freedom) > tail ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

void BatchMeans::add_block(double sum, std::int64_t tokens) {
  if (tokens <= 0) return;
  const auto n = static_cast<double>(tokens);
  ++blocks_;
  n_ += n;
  y_ += sum;
  nn_ += n * n;
  ny_ += n * sum;
  yy_ += sum * sum;
}

void BatchMeans::merge(const BatchMeans& other) {
  blocks_ += other.blocks_;
  n_ += other.n_;
  y_ += other.y_;
  nn_ += other.nn_;
  ny_ += other.ny_;
  yy_ += other.yy_;
}

Interval BatchMeans::interval(double level) const {
  Interval out;
  out.blocks = blocks_;
  if (n_ > 0) out.mean = y_ / n_;
  out.low = out.high = std::numeric_limits<double>::quiet_NaN();
  if (blocks_ < 2) return out;
  // Ratio estimator r = sum y / sum n; var r = B / (B - 1) * sum (y_b - r n_b)^2 / (sum n)^2.
  const double r = out.mean;
  const auto b = static_cast<double>(blocks_);
  const double spread = std::max(0.0, yy_ - 2 * r * ny_ + r * r * nn_);
  const double error = std::sqrt(b / (b - 1) * spread) / n_;
  const double t = student_t_quantile(0.5 + level / 2, b - 1);
  out.low = r - t * error;
  out.high = r + t * error;
  return out;
}

}  // namespace torpor
