#include "core/activity/scores.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

#include "core/activity/neuron_layer.h"
#include "core/activity/row_kernels.h"
#include "core/base/error.h"

namespace torpor {

std::vector<float> row_norms(std::span<const float> rows, int neurons, int width) {
  if (neurons < 0 || width < 0 || rows.size() != static_cast<std::size_t>(neurons) * static_cast<std::size_t>(width))
    throw InvalidArgument("[row_norms] expected {} x {} values, got {}", neurons, width, rows.size());
  std::vector<float> norms(static_cast<std::size_t>(neurons));
  for (std::size_t i = 0; i < norms.size(); ++i) {
    double sum = 0;
    for (const float w : rows.subspan(i * static_cast<std::size_t>(width), static_cast<std::size_t>(width)))
      sum += static_cast<double>(w) * w;
    norms[i] = static_cast<float>(std::sqrt(sum));
    if (!std::isfinite(norms[i]))
      throw BadInput("outgoing weights of neuron {}: expected finite numbers of f32 range, found a norm of {}", i,
                     norms[i]);
  }
  return norms;
}

double zero_fraction(std::span<const float> a) {
  if (a.empty()) return 0;
  return static_cast<double>(std::count(a.begin(), a.end(), 0.F)) / static_cast<double>(a.size());
}

std::vector<float> output_magnitudes(std::span<const float> a, std::span<const float> norms) {
  if (a.size() != norms.size())
    throw InvalidArgument("[output_magnitudes] expected {} norms, got {}", a.size(), norms.size());
  std::vector<float> m(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) m[i] = std::fabs(a[i]) * norms[i];
  return m;
}

float activation_cut(float epsilon, float norm) {
  if (!(epsilon >= 0) || !(norm >= 0))
    throw InvalidArgument("[activation_cut] expected epsilon >= 0 and norm >= 0, got {} and {}", epsilon, norm);
  if (epsilon == 0)
    return norm == 0 ? std::numeric_limits<float>::infinity() : 0;  // a product may underflow; a == 0 may not
  // Magnitudes of floats are ordered like their bits: search the last one on the right side (31 steps).
  std::uint32_t low = 0, high = std::bit_cast<std::uint32_t>(std::numeric_limits<float>::infinity());
  while (high - low > 1) {
    const std::uint32_t middle = low + (high - low) / 2;
    (std::bit_cast<float>(middle) * norm <= epsilon ? low : high) = middle;
  }
  const float cut = std::bit_cast<float>(low);
  return cut == std::numeric_limits<float>::max() ? std::numeric_limits<float>::infinity() : cut;
}

std::vector<double> redo_scores(std::span<const double> mean_magnitudes) {
  std::vector<double> scores(mean_magnitudes.size(), 0);
  if (scores.empty()) return scores;
  const double mean =
      std::accumulate(mean_magnitudes.begin(), mean_magnitudes.end(), 0.0) / static_cast<double>(scores.size());
  if (mean > 0)
    for (std::size_t i = 0; i < scores.size(); ++i) scores[i] = mean_magnitudes[i] / mean;
  return scores;
}

std::int64_t dormant_count(std::span<const double> scores, double tau) {
  return std::count_if(scores.begin(), scores.end(), [tau](double s) { return s <= tau; });
}

double normal_quantile(double p) {
  if (!(p > 0 && p < 1)) throw InvalidArgument("[normal_quantile] expected 0 < p < 1, got {}", p);
  if (p > 0.5) return -normal_quantile(1 - p);
  if (p == 0.5) return 0;
  // Start: Abramowitz and Stegun 26.2.23 (error below 4.5e-4); then Halley steps on Phi(x) = erfc(-x / sqrt 2) / 2,
  // each tripling the digits.
  const double t = std::sqrt(-2 * std::log(p));
  double x = -(t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308))));
  for (int step = 0; step < 3; ++step) {
    const double cdf = 0.5 * std::erfc(-x / std::numbers::sqrt2);
    const double density = std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi);
    if (density == 0) break;
    const double u = (cdf - p) / density;
    x -= u / (1 + 0.5 * x * u);
  }
  return x;
}

ScoreMoments score_moments(std::span<const float> scores) {
  if (scores.empty()) throw InvalidArgument("[score_moments] expected at least one score, got none");
  // Deviations from the first score, so that a large common offset costs no digits.
  const double origin = scores[0];
  const auto [sum, squares] = detail::centred_sums(scores.data(), static_cast<std::int64_t>(scores.size()), origin);
  const auto count = static_cast<double>(scores.size());
  const double mean = sum / count;
  const double variance = scores.size() < 2 ? 0 : std::max(0.0, (squares - sum * mean) / (count - 1));
  return {origin + mean, std::sqrt(variance)};
}

double statistical_threshold(std::span<const float> scores, std::int64_t k) {
  if (k < 1) throw InvalidArgument("[statistical_threshold] expected k >= 1, got k={}, n={}", k, scores.size());
  const auto n = static_cast<std::int64_t>(scores.size());
  if (k >= n) return -std::numeric_limits<double>::infinity();
  const ScoreMoments m = score_moments(scores);
  return m.mean + m.deviation * normal_quantile(1 - static_cast<double>(k) / static_cast<double>(n));
}

double gaussian_cutoff(std::span<const float> scores, double sparsity) {
  if (!(sparsity > 0 && sparsity < 1))
    throw InvalidArgument("[gaussian_cutoff] expected a sparsity between 0 and 1, got {}", sparsity);
  const ScoreMoments m = score_moments(scores);
  const auto n = static_cast<double>(scores.size());
  return m.mean + m.deviation * std::sqrt((n - 1) / n) * normal_quantile(sparsity);
}

std::vector<std::int32_t> magnitude_ranks(std::span<const float> a) {
  std::vector<std::int32_t> order(a.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t i, std::int32_t j) {
    return std::fabs(a[static_cast<std::size_t>(i)]) > std::fabs(a[static_cast<std::size_t>(j)]);
  });
  std::vector<std::int32_t> ranks(a.size());
  for (std::size_t r = 0; r < order.size(); ++r)
    ranks[static_cast<std::size_t>(order[r])] = static_cast<std::int32_t>(r);
  return ranks;
}

}  // namespace torpor
