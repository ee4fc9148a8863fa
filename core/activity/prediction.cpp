#include "core/activity/prediction.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/base/error.h"

namespace torpor {

PredictionQuality prediction_quality(std::span<const float> scores, std::span<const std::uint8_t> active,
                                     std::span<const float> magnitudes) {
  const std::size_t n = scores.size();
  if (n == 0 || active.size() != n || magnitudes.size() != n)
    throw InvalidArgument("[prediction_quality] expected as many labels and magnitudes as scores, got {}, {} and {}",
                          active.size(), magnitudes.size(), n);
  if (std::any_of(scores.begin(), scores.end(), [](float score) { return std::isnan(score); }))
    throw InvalidArgument("[prediction_quality] expected numbers, got a NaN score");
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });

  double all_active = 0, all_mass = 0;
  for (std::size_t i = 0; i < n; ++i) {
    all_active += active[i] != 0 ? 1 : 0;
    all_mass += static_cast<double>(magnitudes[i]) * magnitudes[i];
  }
  PredictionQuality out;
  out.density = all_active / static_cast<double>(n);
  double hits = 0, mass = 0, pairs = 0;
  const auto point = [&](float threshold, std::size_t predicted) {
    const double none = std::numeric_limits<double>::quiet_NaN();
    return PredictionPoint{threshold, all_active > 0 ? hits / all_active : none,
                           predicted > 0 ? hits / static_cast<double>(predicted) : none,
                           1 - static_cast<double>(predicted) / static_cast<double>(n),
                           all_mass > 0 ? mass / all_mass : none};
  };
  out.at_zero = point(0, 0);
  bool has_95 = false, has_99 = false;
  for (std::size_t i = 0; i < n;) {  // over groups of equal scores
    const float score = scores[order[i]];
    double group_hits = 0;
    std::size_t end = i;
    for (; end < n && scores[order[end]] == score; ++end) {
      group_hits += active[order[end]] != 0 ? 1 : 0;
      mass += static_cast<double>(magnitudes[order[end]]) * magnitudes[order[end]];
    }
    const double group_misses = static_cast<double>(end - i) - group_hits;
    pairs += group_misses * (hits + group_hits / 2);  // active neurons that score higher, or as high
    hits += group_hits;
    const PredictionPoint now = point(score, end);
    if (score >= 0) out.at_zero = now;
    if (!has_95 && now.recall >= 0.95) out.at_recall_95 = now, has_95 = true;
    if (!has_99 && now.recall >= 0.99) out.at_recall_99 = now, has_99 = true;
    i = end;
  }
  out.at_zero.threshold = 0;
  out.auc = pairs / (all_active * (static_cast<double>(n) - all_active));
  if (!has_95) out.at_recall_95 = out.at_recall_99 = point(std::numeric_limits<float>::infinity(), 0);
  return out;
}

}  // namespace torpor
