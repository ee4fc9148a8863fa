#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "engine/kernels/reference/reference.h"

namespace torpor::reference {

double activation(Activation activation, double x) {
  switch (activation) {
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu:
      return x / 2 * std::erfc(-x / std::numbers::sqrt2);  // erfc keeps the relative accuracy of the left tail
    case Activation::gelu_tanh: {
      // x/2 (1 + tanh(u)) = x / (1 + exp(-2u)), without the cancellation of the first form
      const double u = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
      return x / (1 + std::exp(-2 * u));
    }
    case Activation::relu:
      return std::max(x, 0.0);
    case Activation::relu2:
      return std::max(x, 0.0) * std::max(x, 0.0);
  }
  return std::numeric_limits<double>::quiet_NaN();
}

void activate(Activation f, float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] = static_cast<float>(activation(f, static_cast<double>(x[i])));
}

void activate_gated(Activation f, float* gate, const float* up, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i)
    gate[i] = static_cast<float>(activation(f, static_cast<double>(gate[i])) * static_cast<double>(up[i]));
}

void add(float* x, const float* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] += y[i];
}

void soft_cap(float* x, std::int64_t n, float cap) {
  for (std::int64_t i = 0; i < n; ++i)
    x[i] =
        static_cast<float>(static_cast<double>(cap) * std::tanh(static_cast<double>(x[i]) / static_cast<double>(cap)));
}

void softmax(float* x, std::int64_t n) {
  if (n == 0) return;
  const double top = static_cast<double>(*std::max_element(x, x + n));
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(x[i]) - top);
  for (std::int64_t i = 0; i < n; ++i) x[i] = static_cast<float>(std::exp(static_cast<double>(x[i]) - top) / sum);
}

double log_sum_exp(const float* x, std::int64_t n) {
  if (n == 0) return -std::numeric_limits<double>::infinity();
  const double top = static_cast<double>(*std::max_element(x, x + n));
  if (std::isinf(top)) return top;
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(x[i]) - top);
  return top + std::log(sum);
}

}  // namespace torpor::reference
