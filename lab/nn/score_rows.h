// Rows of attention or neuron scores: what is above the statistical threshold, and the functions of what is. f32
// through Highway, the type that networks train in; f64 in plain loops, for checks by differences. Internal to lab/nn.
// All functions are thread-safe.
#pragma once

#include <cstdint>
#include <vector>

#include "core/activity/scores.h"
#include "engine/kernels/dense.h"

namespace torpor::lab::detail {

/// Room behind a row that the functions below may write to.
inline constexpr std::int64_t kRowPadding = 16;

ScoreMoments moments_of(const float* x, std::int64_t n);
ScoreMoments moments_of(const double* x, std::int64_t n);

/// Q(1 - k / n) for the threshold mean + std Q (core/activity's statistical_threshold); -infinity where all are kept.
double threshold_quantile(std::int64_t n, std::int64_t k);

/// The i with x_i > theta, in order; returns how many. places: [n + kRowPadding].
std::int64_t places_above(const float* x, std::int64_t n, double theta, std::int32_t* places);
std::int64_t places_above(const double* x, std::int64_t n, double theta, std::int32_t* places);

/// x becomes exp(x_i) / sum exp(x). n >= 1. x: [n + kRowPadding].
void softmax_in_place(float* x, std::int64_t n);
void softmax_in_place(double* x, std::int64_t n);

/// x becomes ln(1 + exp(x_i)), slope its derivative. Both [n + kRowPadding].
void softplus_in_place(float* x, float* slope, std::int64_t n);
void softplus_in_place(double* x, double* slope, std::int64_t n);

/// y_i = x_i - theta + offset where x_i > theta, else 0: offset 0 shrinks, offset theta does not. In f64, rounded once.
void shrink(const float* x, std::int64_t n, double theta, double offset, float* y);

void shrink(const double* x, std::int64_t n, double theta, double offset, double* y);

/// sum of g_i over x_i > theta, in f64.
double sum_above(const float* x, const float* g, std::int64_t n, double theta);
double sum_above(const double* x, const double* g, std::int64_t n, double theta);

/// y_i = (x_i > theta ? g_i : 0) - constant - slope (x_i - mean), in f64, rounded once.
void shrink_gradient(const float* x, const float* g, std::int64_t n, double theta, double mean, double constant,
                     double slope, float* y);
void shrink_gradient(const double* x, const double* g, std::int64_t n, double theta, double mean, double constant,
                     double slope, double* y);

/// y_i = constant + slope (x_i - mean), in f64, rounded once.
void line(const float* x, std::int64_t n, double mean, double constant, double slope, float* y);
void line(const double* x, std::int64_t n, double mean, double constant, double slope, double* y);

/// z becomes f(z_i), slope f'(z_i), for z_i > 0. Both [n + kRowPadding].
void activate_in_place(Activation activation, float* z, float* slope, std::int64_t n);
void activate_in_place(Activation activation, double* z, double* slope, std::int64_t n);

/// What one query attends to (spark.md 2.2): which keys, with which shares and weights. Reused from row to row.
template <typename T>
class KeptKeys {
 public:
  /// scores: of the n >= 1 visible keys; others: of the rest of the heads, or null. Keeps those above the threshold
  /// with this quantile; the first largest where none is above (empty() is then true).
  void choose(const T* scores, const T* others, std::int64_t n, double quantile);

  std::int64_t size() const { return size_; }
  bool empty() const { return empty_; }  // before the largest was taken
  std::int32_t place(std::int64_t i) const { return places_[static_cast<std::size_t>(i)]; }
  T share(std::int64_t i) const { return shares_[static_cast<std::size_t>(i)]; }  // softmax of scores
  T factor(std::int64_t i) const { return has_others_ ? factors_[static_cast<std::size_t>(i)] : T{1}; }  // softplus
  T slope(std::int64_t i) const { return slopes_[static_cast<std::size_t>(i)]; }  // of the softplus
  T weight(std::int64_t i) const { return share(i) * factor(i); }

 private:
  std::vector<std::int32_t> places_;
  std::vector<T> shares_, factors_, slopes_;
  std::int64_t size_ = 0;
  bool empty_ = false, has_others_ = false;
};

extern template class KeptKeys<float>;
extern template class KeptKeys<double>;

}  // namespace torpor::lab::detail
