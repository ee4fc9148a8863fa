// Statistical top-k as an operator of networks that train (You et al. 2025, eq. 4 and Theorem 3.2; spark.md 2.3), and
// the same rule as a mask over attention scores. The threshold is core/activity's statistical_threshold, so that engine
// and lab select alike.
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

struct KeptScores {
  at::Tensor keep;              // bool, as the scores
  std::int64_t empty_rows = 0;  // rows in which no score was above the threshold: the largest was kept
};

/// Which keys each query attends to (spark.md 2.2): among the n_i visible scores of row i, those above mean + std * Q(1
/// - k / n_i); all of them where n_i <= k; the largest (the first among equals) where none is above. Hidden scores take
/// no part and are never kept; a row without visible scores keeps none and counts as nothing. scores: [..., rows, n];
/// visible: bool, broadcasts to it. No gradient: softmax does not feel theta, and the mask has none. Throws
/// InvalidArgument for k < 1 or shapes that do not fit. Thread-safe.
KeptScores statistical_keep(const at::Tensor& scores, const at::Tensor& visible, std::int64_t k);

}  // namespace torpor::lab
