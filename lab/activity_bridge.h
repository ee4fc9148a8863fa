// From LibTorch's tensors to core/activity and back: the statistics that the engine collects while it decodes,
// collected from a network that trains. The numbers are core/activity's own; this only converts and checks. What a
// training network adds later (gradient magnitudes) is not here.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "core/activity/accumulator.h"

namespace torpor::lab {

/// Per-neuron and per-threshold statistics as CPU tensors of doubles that share nothing with the accumulator.
struct ActivityTensors {
  at::Tensor mean_magnitude;  // [neurons] mean |a_i|
  at::Tensor frequency;       // [neurons] share of tokens with |a_i| ||w_i|| > epsilon
  at::Tensor redo_score;      // [neurons] mean |a_i| over the layer's mean of it
  at::Tensor epsilon;         // [thresholds] the grid of output magnitudes
  at::Tensor cett;            // [thresholds] mean CETT at each
  at::Tensor sparsity;        // [thresholds] share of neurons at or below it
};

/// Activity of one neuron layer fed with tensors. One thread at a time, like the accumulator inside.
class TensorActivity {
 public:
  /// outgoing: [neurons, width], row i is what neuron i adds to the output per unit of activation (a torch::nn::Linear
  /// keeps it transposed: pass weight.t()). Any floating type, strides and device; copied as f32.
  /// options.neurons and options.width are taken from it. Throws InvalidArgument for another shape or an integer type,
  /// BadInput for weights that are not finite.
  explicit TensorActivity(const at::Tensor& outgoing, ActivityOptions options = {});

  /// activations: [..., neurons], all leading dimensions are consecutive tokens. Any floating type, strides and device;
  /// f64 is rounded to f32. Takes part in no autograd graph.
  /// Throws InvalidArgument as above, BadInput for values that are not finite; nothing is then counted.
  void add(const at::Tensor& activations);

  /// Throws InvalidArgument for layers of another size.
  void merge(const TensorActivity& other) { accumulator_.merge(other.accumulator_); }

  std::int64_t tokens() const { return accumulator_.tokens(); }
  ActivityStatistics statistics() const { return accumulator_.statistics(); }
  ActivityTensors tensors() const;

 private:
  std::int64_t neurons_;
  ActivityAccumulator accumulator_;
};

}  // namespace torpor::lab
