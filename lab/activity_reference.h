// The definitions of core/activity once more, as plain tensor operations over all tokens at once: the oracle that the
// streaming accumulator is held against (`torpor-lab selfcheck`, tests/lab). To be read, not to be fast: memory grows
// with tokens x neurons.
#pragma once

#include <ATen/core/Tensor.h>

namespace torpor::lab {

/// Means over tokens. All doubles on the CPU.
struct ActivityReference {
  double zero_fraction = 0;   // share of a == 0
  double density = 0;         // share of |a_i| ||w_i|| > epsilon
  at::Tensor mean_magnitude;  // [neurons]
  at::Tensor frequency;       // [neurons]
  at::Tensor redo_score;      // [neurons] (Sokar et al. 2023, Def. 3.1)
  at::Tensor cett;            // [thresholds] (Zhang et al. 2024)
  at::Tensor sparsity;        // [thresholds]
};

/// activations: [tokens, neurons], outgoing: [neurons, width], thresholds: [thresholds] on the output magnitude. Any
/// floating type; first rounded to f32 like everything the accumulator sees, and so are the magnitudes.
ActivityReference activity_reference(const at::Tensor& activations, const at::Tensor& outgoing,
                                     const at::Tensor& thresholds, float epsilon);

}  // namespace torpor::lab
