// Statistical top-k as an operator of networks that train (You et al. 2025, eq. 4 and Theorem 3.2; spark.md 2.3). The
// threshold is core/activity's statistical_threshold, so that engine and lab select alike.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace torpor::lab {

/// What becomes of a score above the threshold: x - theta (the paper's), or x.
enum class Shrink : std::uint8_t { soft, hard };

/// Along the last dimension, of n scores: theta = mean + std * Q(1 - k / n), std with n - 1; y_i = x_i - theta (soft)
/// or x_i (hard) where x_i > theta, else 0. About k of n are not zero; exactly k only by chance.
///
/// x: [..., n], f16, bf16, f32 or f64, any strides, CPU. The statistics are summed in f64 whatever the type; y has x's
/// type and shape. Gradient: soft differentiates theta as well (every score of a row gets some), hard does not need to
/// (theta's derivative has no effect where the mask does not change). First derivatives only.
/// Throws InvalidArgument unless 1 <= k < n. Thread-safe.
at::Tensor statistical_top_k(const at::Tensor& x, std::int64_t k, Shrink shrink = Shrink::soft);

}  // namespace torpor::lab
