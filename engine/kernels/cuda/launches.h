// Which kernels of kernels.h make a layer, in which order. Launch: what starts a kernel: launch(blocks, kernel,
// arguments...), on a stream of the device or on the host (tests).
#pragma once

#include "engine/kernels/cuda/kernels.h"

namespace torpor::cuda {
inline namespace TORPOR_WHERE {

/// out = the sum over the *count active neurons; x: where the multiplier's input begins.
template <class Launch>
void launch_sparse_ffn(const Launch& launch, const FfnBuffers& b, const float* x) {
  launch(b.blocks, sparse_neurons, b.multiplier, b.multiplier_width, b.bias, b.down, b.width, b.active, b.count,
         b.values, x, b.partial);
  launch(static_cast<unsigned>((b.width + kThreads - 1) / kThreads), add_partial, b.partial, static_cast<int>(b.blocks),
         b.width, b.out);
}

/// A whole Spark layer: `first` scores all neurons from the leading values of x, the others go to the multiplier.
template <class Launch>
void launch_spark_ffn(const Launch& launch, const FfnBuffers& b, int activation, float z) {
  const float* const none = nullptr;
  launch(b.blocks, dense_rows, b.first, b.neurons, b.first_width, b.x, none, 1.0F, b.scores);
  launch(1U, statistical_top_k, b.scores, b.neurons, b.neurons, z, false, b.active, b.values, b.count);
  launch(b.blocks, activate_listed, activation, b.count, b.values);
  launch_sparse_ffn(launch, b, b.x + b.first_width);
}

template <class Launch>
void launch_spark_attention(const Launch& launch, const SparkBuffers& b, float z) {
  const auto heads = static_cast<unsigned>(b.sizes.heads);
  launch(heads * b.parts, spark_scores, b.sizes, b.leading, b.q, b.stride, b.scores);
  launch(heads, statistical_top_k, b.scores, b.sizes.keys, b.stride, z, true, b.index, b.kept, b.count);
  launch(heads, softmax_kept, b.count, b.stride, b.kept);
  launch(heads * b.parts, spark_values, b.sizes, b.rest, b.values, b.q, b.index, b.count, b.kept, b.stride, b.partial);
  launch(heads, spark_output, b.partial, b.sizes.heads, static_cast<int>(b.parts), b.sizes.head_dim, b.out);
}

}  // namespace TORPOR_WHERE
}  // namespace torpor::cuda
