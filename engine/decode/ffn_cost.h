// What a feed-forward layer costs on this machine, dense and skipping, measured on the model's own weights: whether
// skipping pays, and below which density.
#pragma once

#include <memory>

#include "core/base/thread_pool.h"
#include "engine/decode/neuron_major.h"
#include "engine/decode/predictor.h"

namespace torpor {

/// Seconds a token and layer.
struct FfnCost {
  double dense = 0;
  double fixed = 0;        // of the skipping layer, whatever is active: what it reads in full, and its overheads
  double per_density = 0;  // what all neurons, were they active, would add

  double sparse(double density) const { return fixed + per_density * density; }
  /// Share of active neurons below which skipping is faster: 1 or more if always, 0 or less if never.
  double break_even() const { return per_density > 0 ? (dense - fixed) / per_density : dense > fixed ? 1 : 0; }
};

/// Takes about a tenth of a second: the medians of several layers in turn, with active neurons drawn anew each time.
/// The model must have been read before: pages that come from the disk would be measured too.
/// predictors: null where none are used; layers that have one are measured with it, and one cost stands for all layers.
FfnCost measure_ffn_cost(const Model& model, const NeuronMajorWeights& weights, ThreadPool& pool,
                         const LayerPredictors* predictors = nullptr);

}  // namespace torpor
