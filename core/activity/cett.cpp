#include "core/activity/cett.h"

#include <algorithm>
#include <cmath>

#include "core/activity/row_kernels.h"
#include "core/base/error.h"

namespace torpor {

double TokenTail::mass_in_top(double share, int neurons) const {
  double total = 0;
  for (const auto& step : steps) total += step.mass;
  if (total <= 0) return 0;
  double wanted = share * neurons, mass = 0;
  for (auto step = steps.rbegin(); step != steps.rend() && wanted > 0; ++step) {
    const double part = std::min(1.0, wanted / step->neurons);
    mass += part * step->mass;
    wanted -= step->neurons;
  }
  return mass / total;
}

void token_tail(std::span<const float> a, std::span<const float> m, std::span<const float> rows, int width,
                TailScratch& scratch, TokenTail& out) {
  out.steps.clear();
  out.output_norm = 0;
  // Counting sort of the neurons by bucket, over the buckets that occur: with few neurons a token, the grid is the
  // larger.
  std::vector<std::int32_t>& bucket = scratch.bucket;
  bucket.resize(m.size());
  std::int32_t lowest = MagnitudeGrid::kBuckets, highest = -1, zeros = 0;
  for (std::size_t i = 0; i < m.size(); ++i) {
    const std::int32_t k = MagnitudeGrid::bucket(m[i]);
    bucket[i] = k;
    zeros += static_cast<std::int32_t>(k == 0);
    if (k == 0) continue;
    lowest = std::min(lowest, k);
    highest = std::max(highest, k);
  }
  out.zeros = zeros;
  if (highest < lowest) return;
  std::vector<std::int32_t>& end_of = scratch.count;  // of bucket lowest + k, once it is filled
  end_of.assign(static_cast<std::size_t>(highest - lowest) + 2, 0);
  for (const std::int32_t k : bucket)
    if (k != 0) ++end_of[static_cast<std::size_t>(k - lowest) + 1];
  for (std::size_t k = 1; k < end_of.size(); ++k) end_of[k] += end_of[k - 1];
  std::vector<std::int32_t>& order = scratch.order;
  order.resize(m.size() - static_cast<std::size_t>(zeros));
  for (std::size_t i = 0; i < m.size(); ++i) {
    if (bucket[i] == 0) continue;
    std::int32_t& place = end_of[static_cast<std::size_t>(bucket[i] - lowest)];
    order[static_cast<std::size_t>(place++)] = static_cast<std::int32_t>(i);
  }

  scratch.sum.assign(static_cast<std::size_t>(width), 0.F);
  for (std::size_t begin = 0; begin < order.size();) {
    TailStep step;
    step.bucket = bucket[static_cast<std::size_t>(order[begin])];
    const auto end = static_cast<std::size_t>(end_of[static_cast<std::size_t>(step.bucket - lowest)]);
    for (std::size_t k = begin; k < end; ++k) {
      const double x = m[static_cast<std::size_t>(order[k])];
      step.mass += x * x;
    }
    step.neurons = static_cast<std::int32_t>(end - begin);
    detail::add_scaled_rows(a.data(), std::span(order).subspan(begin, end - begin), rows.data(), width,
                            scratch.sum.data());
    step.prefix_norm = std::sqrt(detail::squared_norm(scratch.sum.data(), width));
    out.steps.push_back(step);
    begin = end;
  }
  if (!out.steps.empty()) out.output_norm = out.steps.back().prefix_norm;
}

double truncation_error(std::span<const float> a, const NeuronMask& kept, std::span<const float> rows, int width) {
  if (static_cast<std::size_t>(kept.size()) != a.size())
    throw InvalidArgument("[truncation_error] expected a mask of {} neurons, got {}", a.size(), kept.size());
  std::vector<std::int32_t> inside, outside;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (a[i] != 0) (kept.test(static_cast<int>(i)) ? inside : outside).push_back(static_cast<std::int32_t>(i));
  std::vector<float> sum(static_cast<std::size_t>(width), 0.F);
  detail::add_scaled_rows(a.data(), outside, rows.data(), width, sum.data());
  const double tail = std::sqrt(detail::squared_norm(sum.data(), width));
  detail::add_scaled_rows(a.data(), inside, rows.data(), width, sum.data());
  const double whole = std::sqrt(detail::squared_norm(sum.data(), width));
  return whole > 0 ? tail / whole : 0;
}

CettThreshold CettCurve::threshold_for(double target) const {
  if (!(target >= 0)) throw InvalidArgument("[CettCurve::threshold_for] expected a target >= 0, got {}", target);
  CettThreshold out;
  if (sparsity.empty()) return out;
  out.sparsity = sparsity[0];
  for (std::size_t k = 1; k < cett.size() && cett[k] <= target; ++k) {
    // A threshold below everything that was seen drops nothing here, and nobody knows what elsewhere: keep exact zeros.
    if (cett[k] <= 0) continue;
    out = {MagnitudeGrid::edge(static_cast<int>(k)), cett[k], sparsity[k]};
  }
  return out;
}

CettThreshold CettCurve::at(float epsilon) const {
  if (!(epsilon >= 0)) throw InvalidArgument("[CettCurve::at] expected epsilon >= 0, got {}", epsilon);
  if (cett.empty()) return {epsilon, 0, 0};
  const int upper = MagnitudeGrid::bucket(epsilon);
  if (upper >= MagnitudeGrid::kEdges) return {epsilon, cett.back(), sparsity.back()};
  const auto hi = static_cast<std::size_t>(upper);
  if (MagnitudeGrid::edge(upper) <= epsilon || upper <= 1) return {epsilon, cett[hi], sparsity[hi]};
  const double from = std::log(static_cast<double>(MagnitudeGrid::edge(upper - 1)));
  const double to = std::log(static_cast<double>(MagnitudeGrid::edge(upper)));
  const double t = (std::log(static_cast<double>(epsilon)) - from) / (to - from);
  return {epsilon, cett[hi - 1] + t * (cett[hi] - cett[hi - 1]),
          sparsity[hi - 1] + t * (sparsity[hi] - sparsity[hi - 1])};
}

CettThreshold CettCurve::nearest_sparsity(double wanted) const {
  CettThreshold best;
  if (sparsity.empty()) return best;
  best.sparsity = sparsity[0];
  for (std::size_t k = 1; k < sparsity.size(); ++k)
    if (std::fabs(sparsity[k] - wanted) < std::fabs(best.sparsity - wanted))
      best = {MagnitudeGrid::edge(static_cast<int>(k)), cett[k], sparsity[k]};
  return best;
}

}  // namespace torpor
