// CETT, cumulative errors of tail truncation (Zhang et al. 2024; relu2.md 2.3): for a threshold eps on the output
// magnitude, D = { i : m_i <= eps } and CETT = || sum_{i in D} a_i w_i || / || sum_i a_i w_i ||, the relative error of
// the layer's output if the tail D is not computed. Over tokens: the mean of the ratios, not the ratio of the means.
//
// All thresholds at once: each token's neurons are put into the buckets of one grid and summed from the smallest bucket
// up; the norm of each prefix, divided by the last one, is CETT at that bucket's edge. One down-projection a token.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/activity/magnitude_grid.h"
#include "core/activity/mask.h"
#include "core/activity/neuron_layer.h"

namespace torpor {

/// One occupied bucket of one token.
struct TailStep {
  std::int32_t bucket = 0;
  std::int32_t neurons = 0;  // in this bucket
  double mass = 0;           // sum of m_i^2 in this bucket
  double prefix_norm = 0;    // || sum of a_i w_i over this bucket and all below ||
};

/// The shares of neurons for which the share of mass is reported: 5, 10, 20 and 50 %.
inline constexpr std::array<double, 4> kMassShares = {0.05, 0.10, 0.20, 0.50};

/// What one token says about truncation: occupied buckets from small to large, exact zeros left out.
struct TokenTail {
  std::vector<TailStep> steps;
  std::int32_t zeros = 0;  // neurons with m_i == 0
  double output_norm = 0;  // || sum_i a_i w_i ||

  /// Share of sum m^2 in the largest `share` of all neurons, to within one bucket (inside a bucket all count alike).
  double mass_in_top(double share, int neurons) const;
};

/// Working memory of token_tail. One thread at a time.
struct TailScratch {
  std::vector<std::int32_t> bucket, count, order;
  std::vector<float> sum;
};

/// a: [neurons] one token's activations, m: [neurons] its magnitudes (output_magnitudes), rows: [neurons, width].
/// Finite input. Cost: neurons x width multiply-adds over the neurons that are not zero.
void token_tail(std::span<const float> a, std::span<const float> m, std::span<const float> rows, int width,
                TailScratch& scratch, TokenTail& out);

/// Relative error of one token if only the neurons of `kept` are computed: || sum_{i not kept} a_i w_i || / ||sum_i a_i
/// w_i||. 0 where the layer's output is 0. The definition, for any rule. rows: [neurons, width].
double truncation_error(std::span<const float> a, const NeuronMask& kept, std::span<const float> rows, int width);

/// A threshold and what it was measured to do on the tokens of a curve.
struct CettThreshold {
  float epsilon = 0;    // 0: only exact zeros are dropped
  double cett = 0;      // mean over tokens
  double sparsity = 0;  // share of neurons with m <= epsilon
};

/// Mean CETT and sparsity at every edge of the grid. Regular value; const use from several threads.
struct CettCurve {
  std::vector<double> cett;      // [MagnitudeGrid::kEdges]
  std::vector<double> sparsity;  // [MagnitudeGrid::kEdges]
  std::int64_t tokens = 0;

  /// The largest edge up to which every edge has mean CETT <= target: never above the target on the tokens measured,
  /// and at most one edge (4.4 %) below the exact crossing. Epsilon 0 (exact zeros only) where even the smallest
  /// magnitude violates the target, or where nothing but exact zeros lies below. target >= 0, else InvalidArgument.
  CettThreshold threshold_for(double target) const;

  /// What happens at any epsilon >= 0: between edges interpolated in log epsilon.
  CettThreshold at(float epsilon) const;

  /// The edge with the sparsity nearest to `sparsity` (ties: the smaller).
  CettThreshold nearest_sparsity(double sparsity) const;
};

}  // namespace torpor
