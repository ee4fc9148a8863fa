// Decoding with feed-forward layers of which only the active neurons are read: the rules of a plan, or what the model's
// own activation function (ReLU, ReLU², FATReLU) or operator (Spark's statistical top-k) leaves at exactly zero.
//
//   ungated                up dense, then the rows of down of the active neurons
//   gated, exact zeros     gate dense, then the rows of up and down of the neurons whose gate is not zero
//   gated, a plan's rule   gate dense, the rows of up where the gate is not zero, then down of what the rule keeps
//   Spark                  predictor dense, then the rows of up and down above the statistical threshold
//
// What a layer computes for a token does not depend on what was skipped for speed: the bits are those of all neurons
// with the inactive ones at zero.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/activity/selection.h"
#include "core/base/thread_pool.h"
#include "engine/decode/neuron_major.h"
#include "engine/kernels/sparse.h"

namespace torpor {

/// What one layer did for single tokens.
struct SparseLayerCount {
  std::int64_t tokens = 0;
  std::int64_t active = 0;  // neurons, over all tokens
  std::int64_t bytes = 0;   // of weights read for them, over all tokens
};

/// What keeps a model from skipping anything by itself, or nothing if its activations have exact zeros: "silu has no
/// exact zeros: …".
std::string why_not_skippable(const ModelConfig& config);

/// One token at a time. Holds scratch and counts: one session at a time may use it.
class SparseFfn {
 public:
  /// rules: one a layer (a plan's), or none: exact zeros. Throws InvalidArgument if the rules do not fit the model or
  /// if there are none and why_not_skippable() has a reason; BadInput for a rule that cannot be run.
  SparseFfn(std::shared_ptr<const Model> model, std::shared_ptr<const NeuronMajorWeights> weights,
            std::span<const SelectionRule> rules = {});

  /// out = the layer's down projection, bias included. in, out: [d_model]. Throws BadInput naming the layer where `in`
  /// is not finite.
  void forward(int layer, const float* in, float* out, ThreadPool& pool);

  /// Whether forward() is for this layer; all layers, until said otherwise. A layer that is not is computed densely and
  /// masked, with the same result up to the order of sums.
  bool skips(int layer) const { return skips_[static_cast<std::size_t>(layer)]; }
  void set_skips(int layer, bool skips) { skips_[static_cast<std::size_t>(layer)] = skips; }

  /// Applies the layer's rule to rows that were computed densely (prefill). values: [rows, d_ff]. Nothing where the
  /// model itself makes the zeros.
  void mask(int layer, float* values, std::int64_t rows, ThreadPool& pool);

  std::span<const SparseLayerCount> counts() const { return counts_; }
  /// Share of neurons active, the mean over the layers that skip and their tokens; 0 before the first token.
  double density() const;
  /// Bytes of feed-forward weights read for a token, and those that dense layers read.
  double bytes_per_token() const;
  std::int64_t dense_bytes_per_token() const;
  const NeuronMajorWeights& weights() const { return *weights_; }

 private:
  std::int64_t spark(const NeuronMajorLayer& rows, const float* in, ThreadPool& pool);
  void gates(const FfnWeights& ffn, const NeuronMajorLayer& rows, const float* in, ThreadPool& pool);

  std::shared_ptr<const Model> model_;
  std::shared_ptr<const NeuronMajorWeights> weights_;
  std::vector<RowSelector> selectors_;  // empty: exact zeros
  std::vector<SparseLayerCount> counts_;
  std::vector<bool> skips_;
  std::vector<float> values_, packed_;  // [d_ff]
  std::vector<std::int32_t> index_;     // [d_ff]
  SparseScratch scratch_;
};

}  // namespace torpor
