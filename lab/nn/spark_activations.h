// The activations of a Spark FFN as one operator with a hand-written backward (You et al. 2025, eq. 4 to 6;
// spark.md 2.1): the activation function and the product are of kept neurons alone.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "engine/kernels/dense.h"

namespace torpor::lab {

/// f(statistical_top_k(scores, k)) * ups, with the gradient of statistical_top_k's soft threshold. scores, ups: [...,
/// n] of one floating type, CPU, any strides; f(0) = 0, which all functions of Activation have. The engine's
/// spark_activate selects the same neurons. First derivatives only. Throws InvalidArgument unless 1 <= k < n and the
/// shapes and types agree. Thread-safe.
at::Tensor spark_activations(Activation activation, const at::Tensor& scores, const at::Tensor& ups, std::int64_t k);

}  // namespace torpor::lab
